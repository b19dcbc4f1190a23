// Package gauge measures the native engine on this machine: training steps on random
// tokens, what their time goes into, the machine's own rate of large products, and the
// memory that was announced and taken.
//
// Enter at [Engine]. The package must not decide anything from what it measures.
package gauge

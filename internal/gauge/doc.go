// Package gauge measures this machine: training steps of the native engine on random
// tokens, what their time goes into and the memory that was announced and taken; and what a
// chip does with the work of training, shape by shape, with the native engine's kernels or
// through PyTorch.
//
// Enter at [Engine], and at [Native] or [Torch] for a chip. The package must not decide anything
// from what it measures.
package gauge

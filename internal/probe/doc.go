// Package probe computes gate records with the native engine: what it makes of a probe
// (Make), its answer to somebody's record (Answer), and what a number format costs on
// the same probe (Own), by emulation.
//
// An engine keeps its weights; its gradients are overwritten. Nothing is decided here:
// package gate judges.
package probe

// Package scalar is the slow twin of the native engine: the same model, written
// as plainly as possible, one number at a time, for any float type. It is what
// the engine's kernels are tested against, and in float64 what finite
// differences are taken of.
//
// Enter with the operations (RMSNorm, Attend, Route, …), each with its Backward,
// or with [Model], which puts them together. A Backward function adds to the
// gradients of weights and returns those of inputs.
//
// It shares no code with the engine, and must not: two programs that agree are
// evidence only as far as they are independent. It must not be made fast.
package scalar

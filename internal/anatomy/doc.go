// Package anatomy is the arithmetic of decoders: what a model has in parameters,
// computes in floating-point operations, keeps in activations and training state,
// and sends when it is split over chips. It knows models that the native engine
// does not train, so that a run can be planned that other trainers make.
//
// A [Decoder] describes a model; [Of] makes one of a model of ours, and package
// huggingface one of a config.json. [Decoder.Whole] and [Decoder.Stages] are what a
// pipeline's ranks hold of it, with their parameters and work as named parts, each
// with its formula in numbers. [Layout] says how it is split, and [Layout.Check]
// refuses what cannot be.
//
// Numbers are written out as they are added up, which takes some microseconds a
// layer: who compares very many layouts asks once for each kind of layer (a [Stage]
// that holds one) and degree, and multiplies.
//
// Everything is a value, computed from values; nothing is read and nothing is
// measured. Speeds are no part of it: bytes and operations are counted here, how
// long they take is for the planner.
package anatomy

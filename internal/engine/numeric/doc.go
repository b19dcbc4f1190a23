// Package numeric defines how other chips round and add: number formats,
// scaling, accumulation models, and profiles that put them together. It is the
// definition of what the native engine emulates, written to be read and tested,
// not to be fast.
//
// Enter with [Find], which gives the [Profile] of a format (bf16, fp16, tf32,
// hf32, fp8-e4m3, …) or of a chip by its name in the catalogue, and [Profiles],
// which lists them all. A [Format] rounds, encodes and decodes; an
// [Accumulation] adds up products in groups as a matrix unit does.
//
// Everything here is emulation and is called so wherever it is shown: it says
// what a published model says of a chip, and no more. What is not published is
// not guessed; a chip whose accumulation is unknown has its inputs rounded and
// its sums in fp32.
//
// The package must not know who calls it, and computes nothing of a model.
package numeric

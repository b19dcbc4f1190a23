// Package rng gives every random number of a run: initial weights, sample order,
// sampling of text, routing. A number is a pure function of (run seed, purpose,
// index, position), so it depends on no device, no thread and no order of calls
// (rule D1), and its bits are the same on every architecture.
//
// New opens a stream of numbers, Permute gives one element of a shuffled range
// without storing the range.
//
// Nothing here may read a clock, the operating system's entropy or a device, and
// no floating-point product may be left to the compiler to fuse: Go fuses x*y+z
// on arm64 and on amd64 at level v3, which would change last bits. Every product
// that is added to something is therefore wrapped in float64(), which the Go
// specification defines as an explicit rounding.
package rng

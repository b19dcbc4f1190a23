// Package chip is the catalogue of chips and the table of what was measured on them.
//
// Enter with [Builtin], which gives the [Catalogue] that the program carries, or
// [Parse] for a file of a user's, which [Catalogue.Over] lays over it. A [Chip] has a
// [Figure] for each [Field]: a value with its grade, source and date. What nobody
// knows is the zero Figure, and no number can be had of it (rule S6): [Value.Range]
// says whether there is one. That a chip lacks something is known and something else,
// [Value.None].
//
// Catalogue figures are what a chip can do at most. What it does was measured and
// stands in a [Table], a file of its own, dated, which users replace by theirs;
// [BuiltinTable] and [ParseTable] give one, and [Origin.Table] makes one of times that
// were taken on a device.
//
// docs/formats/chips.md describes both files. The package compares no chips and
// estimates nothing: between two measured shapes it knows nothing.
package chip

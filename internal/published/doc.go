// Package published reads tables of training runs that others have published, and
// says what of them a prediction can be held against.
//
// [Parse] gives [Run] values: what a cell does not say stays unknown. [Run.Case]
// expresses a run in this program's terms, a decoder, a chip, degrees and the seconds of
// a step, or says which field keeps it from being compared. [Builtin] are the
// runs that the program carries.
//
// [Split] says which whole sources constants may be fitted to and which only test
// them. It was written before anything was fitted, from ids, chips, layouts and dates
// alone; docs/planner.md shows it and why it is so. [Split.Calibrates] is the only
// way to ask whether a run may be fitted to. The package predicts nothing.
package published

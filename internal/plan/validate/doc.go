// Package validate holds predictions against published runs, row by row, and sums the
// errors up: enter with [Of]. It compares step times, whatever was measured, peaks of memory
// where they are stated, and, where the same model was timed in many layouts, which
// one would have been chosen.
//
// A row that constants were fitted to is marked and never counts among the errors that
// a reader is to expect; nor does one of newer software, or one that set a factor.
// The package knows no model of cost: who asks brings a [Predictor]. docs/planner.md
// shows the result.
package validate

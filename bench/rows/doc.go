// Package rows keeps what an experiment has measured, one JSON object a line, so that one
// that was cut off goes on behind its last row.
//
// Enter with [Read] and [Append]. It knows nothing of what a row means.
package rows

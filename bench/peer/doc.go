// Package peer starts the programs that the engine is measured against, and talks to
// them: one JSON object a line, question and answer in turn.
//
// Enter with [Start]. It knows nothing of what is measured.
package peer

// Package ledger turns the events of a run into what people and programs read:
// the state of the run now ([Status]) and what it did in the end ([Summary]).
//
// The run emits [Event] values; log lines, the dashboard, the JSON summary and
// tests all consume that one stream. The package is pure: time comes in with the
// events, and an unknown value stays unknown (it reads null, never 0).
package ledger

// Package gate is the gate at the door: it says whether a learner computes the run's
// model, before anything that it has trained is merged. A record holds a probe
// (tokens, and which weights), and what a trusted engine makes of it: the loss, and of
// every tensor the gradient's norm and eight seeded ±1 projections. A learner's answer
// is of the same kind, and Judge compares the two within the bounds of the number
// format that the learner has declared (DESIGN, section 9).
//
// Enter at Record and Judge. sketch.go holds the projections, probe.go the tokens,
// sharpen.go the weights that a probe of a new run is made on, bounds.go the bounds.
// The format of a record is in docs/formats/gate.md.
//
// Nothing here computes a gradient or knows where answers come from.
package gate

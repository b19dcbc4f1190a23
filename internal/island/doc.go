// Package island is the learner's side of a run: one process that trains a full
// replica, sends what it has learned fragment by fragment, and adopts what the syncer
// merged, at step boundaries and without waiting for any other learner.
//
// Enter at run.go (the loop around inner steps) and learner.go (the replica's part of
// the exchange). What trains is a trainer (trainer.go): the native engine (native.go),
// or the ranks of a program of the user's (external.go, with holding.go for what they
// hold and crew.go for how they come in). exchange.go holds the arithmetic of sending
// and adopting, link.go the connection that survives a broken stream. It decides
// nothing about others: leases, verdicts and versions come from the coordinator and the
// syncer.
package island

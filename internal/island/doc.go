// Package island is the learner's side of a run: one process that trains a full
// replica, sends what it has learned fragment by fragment, and adopts what the syncer
// merged, at step boundaries and without waiting for any other learner.
//
// Enter at run.go (the loop around inner steps), from where enter.go is the way into
// the run, boundary.go what happens between two steps, and learner.go the replica's part
// of the exchange, whose arithmetic is in exchange.go. What trains is a trainer
// (trainer.go): the native engine (native.go), or the ranks of a program of the user's
// (external.go). Of those crew.go says how they come in, holding.go what each holds,
// delivery.go how values get to them; part.go is a further
// host of them, part_exchange.go its part of the exchange. capture.go
// saves an island's state and state.go takes it over, which ranks give and take by
// keep.go and keep_restore.go. link.go is the connection that survives a broken stream.
//
// The package decides nothing about others: leases, verdicts and versions come from the
// coordinator and the syncer.
package island

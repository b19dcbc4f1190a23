// Package island is the learner's side of a run: one process that trains a full
// replica, sends what it has learned fragment by fragment, and adopts what the syncer
// merged, at step boundaries and without waiting for any other learner.
//
// Enter at run.go, the loop around inner steps. Then:
//
//   - the way: enter.go is the way into the run, link.go the connection that survives a
//     broken stream, boundary.go what happens between two steps, progress.go what the
//     coordinator hears of them;
//   - the replica: learner.go is its part of the exchange, exchange.go the arithmetic;
//   - what trains (trainer.go): the native engine (native.go), or the ranks of a program
//     of the user's (external.go): crew.go says how they come in, holding.go what each
//     holds, delivery.go how values get to them; part.go and part_exchange.go are a
//     further host of theirs;
//   - states: capture.go saves one and state.go takes it over, which ranks give and take
//     by keep.go and keep_restore.go.
//
// The package decides nothing about others: leases, verdicts and versions come from the
// coordinator and the syncer.
package island

// Package serve carries out what the coordinator and the syncer decide: it is
// the parent of a run. One goroutine (host.go) feeds both machines with what
// peers, processes, the store and the clock report; each machine's effects are
// carried out in order by a queue of their own, so that waiting for a disk never
// stops a decision.
//
// Enter at Train in serve.go; open.go prepares a new run and resume.go an old
// one; peers.go turns messages into inputs; coordinator.go and syncing.go carry
// out effects; bank.go holds the tensors.
package serve

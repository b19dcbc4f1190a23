// Package coord decides about the members of a run: which island processes
// live, which samples each of them trains, when a checkpoint is cut, and when
// the run is over. It is pure: Step takes an input and the time and returns
// effects with a reason; package serve carries them out, a simulator can as well.
//
// Enter at state.go (the machine), then member.go (the lives of islands), closing.go
// (their ends), patience.go (who counts as dead), arrive.go and gate.go (who comes from
// outside, and whether it may train), grant.go and lease.go (samples), spike.go (steps
// that are not applied, and rollbacks), save.go (checkpoints and the end). It owns no
// tensors, reads no clock and imports nothing that could.
package coord

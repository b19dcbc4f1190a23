// Package serve carries out what the coordinator and the syncer decide: it is
// the parent of a run. One goroutine (host.go) feeds both machines with what
// peers, processes, the store and the clock report; each machine's effects are
// carried out in order by a queue of their own, so that waiting for a disk never
// stops a decision.
//
// Enter at Train in serve.go; open.go prepares a new run and resume.go an old one, era.go
// begins and ends an era on the tape. Then:
//
//   - who comes: listen.go opens the ports and makes join strings, arrive.go judges
//     islands from outside, party.go seats the further hosts of one;
//   - what they say: peers.go turns messages into inputs, bank.go and assemble.go
//     keep the tensors that come with them;
//   - what is done: coordinator.go and syncing.go carry out effects;
//   - the gate: gate.go asks and has the answer judged, door.go, doorstep.go and
//     standard.go keep what islands are compared with;
//   - states: save.go writes checkpoints, meta.go is what their manifests say,
//     carry.go keeps states that wait for their island, moved.go proves that what was
//     taken over is what was saved.
package serve

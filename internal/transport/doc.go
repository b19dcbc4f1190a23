// Package transport moves the messages of package wire between learners and the
// coordinator: one ordered stream a learner, over gRPC, with payloads cut into
// chunks and put together again on the other side.
//
// Enter at New and Server.Serve on the coordinator's side, and at Dial on the
// learner's. What it promises, in both directions:
//
//   - Messages of one session arrive whole and in the order of Send. A payload
//     whose digest differs from the announced one arrives with Damaged set.
//   - Send queues and never blocks. Queues are bounded by bytes: the server
//     closes a peer that does not keep up, the client is told ErrQueueFull.
//   - What is received is bounded too: a receiver that is slow stops the sender
//     by flow control, and memory for a payload grows only as its bytes arrive.
//   - Malformed input ends the session it came on and nothing else.
//   - Who is refused for another protocol, run or secret never reaches the Handler.
//
// It takes no decision on members, leases or merges: incarnation and era of a
// message are for the receiver to judge.
package transport

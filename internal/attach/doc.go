// Package attach is this program's end of the local protocol: a Unix socket on
// which the ranks of a trainer on the same host speak line by line, and memory
// that each rank shares with this process for its tensors.
//
// Enter at crew.go (the ranks of one host, from their welcome to their end) and
// message.go (what is said); listen.go opens the socket, hello.go makes a rank of
// who comes, rank.go and memory.go are one rank and what it shares.
// docs/formats/attach.md is the protocol for both sides. The package checks form and
// order of greetings and moves bytes; what a message means for the run is decided by
// who handles it.
package attach

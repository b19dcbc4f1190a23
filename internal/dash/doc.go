// Package dash shows a run to the person who started it: on a terminal one live
// block that is drawn over itself, with notable events scrolling away above it;
// elsewhere plain lines. [Report] is the text that closes a run.
//
// It consumes the events of package ledger and writes text. It decides nothing,
// starts no goroutine and reads no clock and no environment: who makes a [Dash]
// says whether there is a terminal, how wide it is, whether colour is wanted, and
// what time it is.
package dash

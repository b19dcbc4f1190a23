package outer

// PseudoGradient is what a learner sends: dst = anchor - theta, the way from where
// it is now back to the fragment it adopted last. A step against it goes towards
// the learner's weights.
func PseudoGradient(dst, anchor, theta []float32) {
	subtract(dst, anchor, theta)
}

// Sent is where the learner was when it sent delta, as the syncer sees it:
// dst = anchor - delta. It differs from the weights themselves by the rounding of
// PseudoGradient (and of the wire, where that rounds), and Rebase needs it so.
func Sent(dst, anchor, delta []float32) {
	subtract(dst, anchor, delta)
}

// subtract is dst = a - b; dst may be a or b.
func subtract(dst, a, b []float32) {
	mustMatch(len(dst), len(a), len(b))
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

// Rebase adopts a merged fragment and keeps what the learner has done since it
// sent: theta += merged - sent. Where merged equals sent, theta keeps its bits,
// the sign of a zero included.
func Rebase(theta, merged, sent []float32) {
	mustMatch(len(theta), len(merged), len(sent))
	merged, sent = merged[:len(theta)], sent[:len(theta)]
	for i := range theta {
		if d := merged[i] - sent[i]; d != 0 {
			theta[i] += d
		}
	}
}

// mustMatch panics when slices that describe the same fragment differ in length.
func mustMatch(lengths ...int) {
	for _, n := range lengths[1:] {
		if n != lengths[0] {
			panic("outer: slices of one fragment differ in length")
		}
	}
}

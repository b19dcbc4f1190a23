package island

// span is the samples from <= n < to.
type span struct{ from, to int64 }

// leases is the queue of samples to train, in the order they were granted.
type leases struct {
	spans   []span
	granted int64 // samples that were ever added
}

func (l *leases) add(from, to int64) {
	if from < to {
		l.spans = append(l.spans, span{from, to})
		l.granted += to - from
	}
}

func (l *leases) left() int64 {
	var n int64
	for _, s := range l.spans {
		n += s.to - s.from
	}
	return n
}

// next takes up to n sample numbers, appending them to dst.
func (l *leases) next(dst []uint64, n int64) []uint64 {
	for n > 0 && len(l.spans) > 0 {
		s := &l.spans[0]
		for ; n > 0 && s.from < s.to; n-- {
			dst = append(dst, uint64(s.from))
			s.from++
		}
		if s.from == s.to {
			l.spans = l.spans[1:]
		}
	}
	return dst
}

func (l *leases) clear() { l.spans = nil }

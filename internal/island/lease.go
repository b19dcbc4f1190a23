package island

// span is the samples from <= n < to. Retry: a step of them was withheld before.
type span struct {
	from, to int64
	retry    bool
}

// leases is the queue of samples to train, in the order they were granted.
type leases struct {
	spans   []span
	granted int64 // samples that were ever added
}

func (l *leases) add(s span) {
	if s.from < s.to {
		l.spans = append(l.spans, s)
		l.granted += s.to - s.from
	}
}

func (l *leases) left() int64 {
	var n int64
	for _, s := range l.spans {
		n += s.to - s.from
	}
	return n
}

// next takes up to n sample numbers, appending them to dst. All of them are tried for
// the first time, or all again: what is known of a step is then known of its samples.
func (l *leases) next(dst []uint64, n int64) (samples []uint64, retry bool) {
	if len(l.spans) > 0 {
		retry = l.spans[0].retry
	}
	for n > 0 && len(l.spans) > 0 && l.spans[0].retry == retry {
		s := &l.spans[0]
		for ; n > 0 && s.from < s.to; n-- {
			dst = append(dst, uint64(s.from))
			s.from++
		}
		if s.from == s.to {
			l.spans = l.spans[1:]
		}
	}
	return dst, retry
}

// back puts samples that next has just given in front again.
func (l *leases) back(samples []uint64, retry bool) {
	var front []span
	for _, s := range samples {
		if n := len(front); n > 0 && front[n-1].to == int64(s) {
			front[n-1].to++
			continue
		}
		front = append(front, span{int64(s), int64(s) + 1, retry})
	}
	l.spans = append(front, l.spans...)
}

// drop takes n samples away without naming them.
func (l *leases) drop(n int64) {
	for n > 0 && len(l.spans) > 0 {
		s := &l.spans[0]
		take := min(n, s.to-s.from)
		s.from, n = s.from+take, n-take
		if s.from == s.to {
			l.spans = l.spans[1:]
		}
	}
}

func (l *leases) clear() { l.spans = nil }

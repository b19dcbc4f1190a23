package coord

import (
	"cmp"
	"slices"
)

// lease is what one incarnation was given, in the order it trains. Position n is
// the n-th sample it was ever given; those before base are in the model, have
// verdicts everywhere, and are forgotten.
type lease struct {
	base, end int64 // positions; end is how many samples it was given in all
	ranges    []Range
}

// add appends ranges.
func (l *lease) add(ranges []Range) {
	for _, r := range ranges {
		l.ranges = join(l.ranges, r)
		l.end += r.Len()
	}
}

// until is the samples it still remembers before a position, from the samples behind it.
func (l *lease) until(position int64) []Range {
	head, _ := split(l.ranges, position-l.base)
	return head
}

func (l *lease) from(position int64) []Range {
	_, tail := split(l.ranges, position-l.base)
	return tail
}

// forget drops what is before a position.
func (l *lease) forget(position int64) {
	if position = min(position, l.end); position > l.base {
		l.ranges, l.base = l.from(position), position
	}
}

// holed is how many positions before a position are of steps that were not applied.
func holed(holes []Range, position int64) int64 {
	var n int64
	for _, h := range holes {
		n += max(min(h.To, position)-h.From, 0)
	}
	return n
}

// applied is the samples from a position on, without those of holes.
func (l *lease) applied(position int64, holes []Range) []Range {
	var out []Range
	for _, h := range holes {
		if h.To <= position {
			continue
		}
		before, _ := split(l.from(position), h.From-position)
		for _, r := range before {
			out = join(out, r)
		}
		position = h.To
	}
	for _, r := range l.from(position) {
		out = join(out, r)
	}
	return out
}

// pool is the samples nobody holds: the new ones, which are those that came back, lowest
// first, and then everything from next on; and withheld steps, put in where they are due.
type pool struct {
	returned []Range // ascending, disjoint, all below next
	retries  []Range // by due, then by their first sample
	ahead    []Range // from next on: left out of the run; ascending, disjoint
	next     int64
	total    int64
	withheld int64 // of returned: beyond the run's goal, which was lowered on resume
}

// left is how many samples can be handed out.
func (p *pool) left() int64 {
	return max(p.total-p.next-length(p.ahead)+length(p.returned)-p.withheld+length(p.retries), 0)
}

// take removes up to n samples. In which order they go out does not depend on how many
// are taken at a time.
func (p *pool) take(n int64) []Range {
	n = min(n, p.left())
	var out []Range
	for n > 0 {
		r := p.first(n)
		out = join(out, r)
		n -= r.Len()
	}
	return out
}

// first takes up to n of the samples that go out first.
func (p *pool) first(n int64) Range {
	fresh, to := p.next, p.total
	switch {
	case len(p.returned) > 0:
		fresh, to = p.returned[0].From, p.returned[0].To
	case len(p.ahead) > 0:
		to = p.ahead[0].From
	}
	if len(p.retries) > 0 {
		r := &p.retries[0]
		if r.Due <= fresh || fresh == p.total {
			out := Range{r.From, min(r.From+n, r.To), r.Due}
			if r.From = out.To; r.Len() == 0 {
				p.retries = p.retries[1:]
			}
			return out
		}
		to = min(to, r.Due)
	}
	out := Range{From: fresh, To: min(fresh+n, to)}
	if len(p.returned) == 0 {
		p.next = out.To
		p.pass()
	} else if p.returned[0].From = out.To; p.returned[0].Len() == 0 {
		p.returned = p.returned[1:]
	}
	return out
}

// give puts ranges back in order.
func (p *pool) give(ranges []Range) {
	all := slices.Clone(p.returned)
	for _, r := range ranges {
		if r.Retry() {
			p.retries = append(p.retries, r)
		} else {
			all = append(all, r)
		}
	}
	slices.SortFunc(p.retries, func(a, b Range) int { return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.From, b.From)) })
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	p.returned = nil
	for _, r := range all {
		p.returned = join(p.returned, r)
	}
}

// pass goes on behind what is left out.
func (p *pool) pass() {
	for len(p.ahead) > 0 && p.ahead[0].From <= p.next {
		p.next = max(p.next, p.ahead[0].To)
		p.ahead = p.ahead[1:]
	}
}

// leaveOut takes what the pool has of r out of it and returns that.
func (p *pool) leaveOut(r Range) (out []Range) {
	var again []Range
	p.returned, out = cut(p.returned, r)
	p.retries, again = cut(p.retries, r)
	out = append(out, again...)
	if fresh := (Range{From: max(r.From, p.next), To: min(r.To, p.total)}); fresh.Len() > 0 {
		rest := []Range{fresh}
		for _, a := range p.ahead {
			rest, _ = cut(rest, a)
		}
		p.ahead = union(p.ahead, rest)
		out = append(out, rest...)
		p.pass()
	}
	return out
}

// cut divides ranges into what is outside r and what is inside.
func cut(ranges []Range, r Range) (outside, inside []Range) {
	for _, x := range ranges {
		outside = join(outside, Range{x.From, min(x.To, r.From), x.Due})
		inside = join(inside, Range{max(x.From, r.From), min(x.To, r.To), x.Due})
		outside = join(outside, Range{max(x.From, r.To), x.To, x.Due})
	}
	return outside, inside
}

// union is the samples of both, ascending, each once.
func union(a, b []Range) []Range {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y Range) int { return cmp.Compare(x.From, y.From) })
	var out []Range
	for _, r := range all {
		r.Due = 0
		if n := len(out); n > 0 {
			r.From = max(r.From, out[n-1].To)
		}
		out = join(out, r)
	}
	return out
}

// join appends r, extending the last range when r continues it.
func join(ranges []Range, r Range) []Range {
	if r.Len() <= 0 {
		return ranges
	}
	if n := len(ranges); n > 0 && ranges[n-1].To == r.From && ranges[n-1].Due == r.Due {
		ranges[n-1].To = r.To
		return ranges
	}
	return append(ranges, r)
}

// length is the number of samples in all ranges.
func length(ranges []Range) int64 {
	var n int64
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// split cuts ranges behind the first n samples.
func split(ranges []Range, n int64) (head, tail []Range) {
	for _, r := range ranges {
		k := min(max(n, 0), r.Len())
		head = join(head, Range{r.From, r.From + k, r.Due})
		tail = join(tail, Range{r.From + k, r.To, r.Due})
		n -= k
	}
	return head, tail
}

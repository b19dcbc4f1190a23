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

// pool is the samples nobody holds: ranges that came back, lowest first, and
// then everything from next on.
type pool struct {
	returned []Range // ascending, disjoint, all below next
	next     int64
	total    int64
	withheld int64 // of returned: beyond the run's goal, which was lowered on resume
}

// left is how many samples can be handed out.
func (p *pool) left() int64 { return max(p.total-p.next+length(p.returned)-p.withheld, 0) }

// take removes up to n samples, those that came back first.
func (p *pool) take(n int64) []Range {
	n = min(n, p.left())
	var out []Range
	for n > 0 && len(p.returned) > 0 {
		r := &p.returned[0]
		k := min(n, r.Len())
		out = join(out, Range{r.From, r.From + k})
		n -= k
		if r.From += k; r.Len() == 0 {
			p.returned = p.returned[1:]
		}
	}
	if n > 0 {
		out = join(out, Range{p.next, p.next + n})
		p.next += n
	}
	return out
}

// give puts ranges back in order.
func (p *pool) give(ranges []Range) {
	all := slices.Concat(p.returned, ranges)
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	p.returned = nil
	for _, r := range all {
		p.returned = join(p.returned, r)
	}
}

// join appends r, extending the last range when r continues it.
func join(ranges []Range, r Range) []Range {
	if r.Len() <= 0 {
		return ranges
	}
	if n := len(ranges); n > 0 && ranges[n-1].To == r.From {
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
		head = join(head, Range{r.From, r.From + k})
		tail = join(tail, Range{r.From + k, r.To})
		n -= k
	}
	return head, tail
}

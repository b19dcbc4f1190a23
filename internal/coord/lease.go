package coord

// pool is the samples nobody holds: ranges that came back, lowest first, and
// then everything from next on.
type pool struct {
	returned []Range // ascending, disjoint, all below next
	next     int64
	total    int64
}

func (p *pool) left() int64 {
	n := p.total - p.next
	for _, r := range p.returned {
		n += r.Len()
	}
	return n
}

// take removes up to n samples, those that came back first.
func (p *pool) take(n int64) []Range {
	var out []Range
	for n > 0 && len(p.returned) > 0 {
		r := &p.returned[0]
		k := min(n, r.Len())
		out = append(out, Range{r.From, r.From + k})
		n -= k
		if r.From += k; r.Len() == 0 {
			p.returned = p.returned[1:]
		}
	}
	if k := min(n, p.total-p.next); k > 0 {
		out = join(out, Range{p.next, p.next + k})
		p.next += k
	}
	return out
}

// give puts ranges back in order.
func (p *pool) give(ranges []Range) {
	all := append(append([]Range(nil), p.returned...), ranges...)
	p.returned = nil
	for len(all) > 0 { // few ranges: a selection sort is enough
		low := 0
		for i := range all {
			if all[i].From < all[low].From {
				low = i
			}
		}
		p.returned = join(p.returned, all[low])
		all = append(all[:low], all[low+1:]...)
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

package audit

import (
	"slices"
	"sort"

	"github.com/mistura-project/mistura/internal/coord"
)

// spans is a set of sample numbers: ascending, disjoint, not touching.
type spans []coord.Range

// add puts r in and returns the part of it that was there before.
func (s *spans) add(r coord.Range) (before []coord.Range) {
	if r.Len() <= 0 {
		return nil
	}
	first, last := s.touching(r)
	merged := r
	before = s.within(r)
	for _, t := range (*s)[first:last] {
		merged = coord.Range{From: min(merged.From, t.From), To: max(merged.To, t.To)}
	}
	*s = slices.Replace(*s, first, last, merged)
	return before
}

// remove takes r out.
func (s *spans) remove(r coord.Range) {
	if r.Len() <= 0 {
		return
	}
	first, last := s.touching(r)
	var keep []coord.Range
	for _, t := range (*s)[first:last] {
		for _, k := range []coord.Range{{From: t.From, To: min(t.To, r.From)}, {From: max(t.From, r.To), To: t.To}} {
			if k.Len() > 0 {
				keep = append(keep, k)
			}
		}
	}
	*s = slices.Replace(*s, first, last, keep...)
}

// touching is the index range of the spans that overlap or adjoin r.
func (s *spans) touching(r coord.Range) (first, last int) {
	first = sort.Search(len(*s), func(i int) bool { return (*s)[i].To >= r.From })
	last = first + sort.Search(len(*s)-first, func(i int) bool { return (*s)[first+i].From > r.To })
	return first, last
}

// within is the part of r that is in s.
func (s spans) within(r coord.Range) (in []coord.Range) {
	first, last := s.touching(r)
	for _, t := range s[first:last] {
		if over := (coord.Range{From: max(r.From, t.From), To: min(r.To, t.To)}); over.Len() > 0 {
			in = append(in, over)
		}
	}
	return in
}

// without is s less all of the others.
func (s spans) without(others ...spans) spans {
	out := slices.Clone(s)
	for _, o := range others {
		for _, r := range o {
			out.remove(r)
		}
	}
	return out
}

func (s spans) len() int64 {
	var n int64
	for _, r := range s {
		n += r.Len()
	}
	return n
}

package syncer

import "slices"

// closed is the set of incarnations that are over. They are given in order and most
// of them end, so the set is a few spans, however long the run lasts.
type closed struct{ spans []span }

// span is the incarnations from <= n < to.
type span struct{ from, to uint64 }

func (c *closed) has(n uint64) bool {
	for _, s := range c.spans {
		if s.from <= n && n < s.to {
			return true
		}
	}
	return false
}

func (c *closed) add(n uint64) {
	if c.has(n) {
		return
	}
	i := 0
	for i < len(c.spans) && c.spans[i].to <= n {
		i++
	}
	c.spans = slices.Insert(c.spans, i, span{n, n + 1})
	if i+1 < len(c.spans) && c.spans[i+1].from == n+1 {
		c.spans[i].to = c.spans[i+1].to
		c.spans = slices.Delete(c.spans, i+1, i+2)
	}
	if i > 0 && c.spans[i-1].to == n {
		c.spans[i-1].to = c.spans[i].to
		c.spans = slices.Delete(c.spans, i, i+1)
	}
}

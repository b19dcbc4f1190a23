package search

// only is the best plan on one pool, with the syncers beside it unless the fleet file says
// where they stand. If none keeps what is asked for it is the fastest, and what that misses.
func (s *search) only(at int) (best *Plan, misses string) {
	other := s.alone()
	if g := other.grounds[at]; s.q.placed() == "" {
		g.path = g.beside
	}
	other.offer()
	for _, pools := range other.pools {
		for i := range pools {
			if i != at {
				pools[i] = nil
			}
		}
	}
	t := s.goal()
	t.top = 1
	if found := other.find(t); len(found) > 0 {
		p := other.plan(found[0])
		return &p, ""
	}
	found := other.find(goal{by: Time, deadline: unlimited(), budget: unlimited(), top: 1})
	switch {
	case len(found) == 0:
		return nil, "no plan: it holds no model, or not for long enough"
	case found[0].seconds > t.deadline:
		misses = "too late"
	default:
		misses = "too dear"
	}
	p := other.plan(found[0])
	return &p, misses
}

// each finds what every pool can do alone, where there are several.
func (s *search) each(judged []Judged) {
	if len(judged) == 1 {
		return
	}
	s.q.Parallel(len(s.grounds), func(at int) {
		for i := range judged {
			if j := &judged[i]; j.Pool == s.grounds[at].name && j.Rejected == "" {
				j.Alone, j.Misses = s.only(at)
			}
		}
	})
}

package plan

import "math"

// inside is how many of a group's ranks share the fast links of a rank, when its ranks
// stand a stride apart.
func (h Hardware) inside(ranks, stride int) int {
	return min(ranks, max(1, h.Group/stride))
}

// ring is the time of a byte that each rank sends around: by the fast links where they
// reach, otherwise by the network, whose cards all ranks of a host use side by side.
func (m *Model) ring(ranks, stride int) float64 {
	r := m.chip.inside(ranks, stride)
	if r == ranks {
		return m.linkTime(ranks)
	}
	return max(m.linkTime(r), m.c.nic/float64(r))
}

// linkTime of a byte among ranks of one group: all links of a chip carry it, or on a
// mesh only those to the ranks that take part.
func (m *Model) linkTime(ranks int) float64 {
	if m.chip.Pair > 0 && ranks > 1 {
		if pairs := m.chip.Pair * float64(ranks-1); pairs < m.chip.Link {
			return m.c.link * m.chip.Link / pairs
		}
	}
	return m.c.link
}

// toExperts is the time of tokens' way to their experts, all tokens of a rank together:
// between expert-parallel ranks, and then gathered by all ranks of an expert that is cut.
func (m *Model) toExperts(t *layerTime, l Layout, tokens float64) float64 {
	gather := 0.0
	if others := float64(l.ETP - 1); others > 0 {
		gather = others * (tokens*t.expertBytes*m.ring(l.ETP, 1) + m.c.hop)
	}
	return gather + m.allToAll(t, l.EP, l.ETP, tokens)
}

// allToAll is the time of tokens' way to ranks a stride apart: a choice inside the group of
// fast links travels alone; beyond it, a token goes to each group once, whatever it chose
// there (DeepSeek-V3, arXiv 2412.19437, section 3.2.2).
func (m *Model) allToAll(t *layerTime, n, stride int, tokens float64) float64 {
	if n == 1 {
		return 0
	}
	r := m.chip.inside(n, stride)
	near := tokens * t.expertBytes * float64(r-1) / float64(r) * m.linkTime(r)
	if r == n {
		return near + m.c.hop*float64(n-1)
	}
	groups := float64(n) / float64(r)
	visited := groups * (1 - math.Pow(1-1/groups, t.topK)) // of all groups, by even choice
	far := tokens * t.expertBytes / t.topK * visited * (groups - 1) / groups * m.c.nic
	return max(near, far) + m.c.hop*float64(r+int(groups)-2)
}

// context is what a pass of attention waits for keys and values of the other context-parallel
// ranks, which go around while it works (Liu et al., arXiv 2310.01889, section 3): once
// forward, and backward once more, and their gradients.
func (m *Model) context(t *layerTime, l Layout, times, tokens, attention float64) float64 {
	others := float64(l.CP - 1)
	return m.beside(attention, times*others*(t.keyBytes*tokens*m.ring(l.CP, l.TP)+m.c.hop))
}

// beside is what traffic adds to work that it goes on beside.
func (m *Model) beside(work, traffic float64) float64 {
	if work == 0 || traffic == 0 || m.c.overlap <= 1 {
		return traffic
	}
	// (work^p + traffic^p)^(1/p) − work, without the difference of two like numbers.
	return work * math.Expm1(math.Log1p(math.Pow(traffic/work, m.c.overlap))/m.c.overlap)
}

// passing is the time that a stage waits for its neighbours' stream and gradients for
// a micro-batch.
func (m *Model) passing(l Layout, tokens float64) float64 {
	bytes := float64(wideBytes(m.task.Format)*m.task.Model.Hidden) * tokens / float64(l.TP)
	per := m.c.nic
	if l.TP*l.CP*l.DP*l.PP <= m.chip.Group {
		per = m.c.link
	}
	return m.c.send * 2 * (bytes*per + m.c.hop)
}

// replicas is what the exchange of gradients and weights of a rank's parameters adds to a
// step.
func (m *Model) replicas(dense, routed float64, l Layout, stage, batches float64) float64 {
	time := func(parameters float64, ranks, stride int) float64 {
		if ranks < 2 || parameters == 0 {
			return 0
		}
		others := float64(ranks-1) / float64(ranks)
		return parameters * others * m.ring(ranks, stride)
	}
	ranks := l.DP * l.CP
	each := time(dense, ranks, l.TP) + time(routed, ranks*l.TP/(l.EP*l.ETP), l.EP*l.ETP)
	weights := float64(wideBytes(m.task.Format))
	gradients := weights
	if m.task.Stack == Plain || m.task.Stack == Titan { // sums in fp32: Megatron's and torchtitan's default
		gradients = 4
	}
	if l.ZeRO == 0 { // the owners' sums come back, not their weights
		weights = gradients
	}
	adds := func(bytes float64) float64 {
		if l.Exposed {
			return each * bytes
		}
		return m.beside(stage, each*bytes)
	}
	if m.gathersEachTime(l) {
		return batches * adds(gradients+2*weights)
	}
	once := adds(gradients + weights)
	if l.ZeRO == 2 { // nobody has room for the sums of several micro-batches' gradients
		once += (batches - 1) * adds(gradients)
	}
	return once
}

// gathersEachTime says whether weights are gathered for each micro-batch: with a
// pipeline torchtitan keeps them for a step.
func (m *Model) gathersEachTime(l Layout) bool {
	return l.ZeRO == 3 && (l.PP == 1 || m.task.Stack != Titan)
}

// held counts the parameters of the fullest stage.
func (m *Model) held(s *sharded, l *Layout) (dense, routed float64) {
	w := m.walk(l)
	for stage := range l.PP {
		d, r, counts := 0.0, 0.0, w.next()
		for kind := range s.layers {
			d += float64(counts[kind]) * s.layers[kind].dense
			r += float64(counts[kind]) * s.layers[kind].routed / float64(l.EP*l.ETP)
		}
		if stage == 0 {
			d += s.ends
		}
		if stage == l.PP-1 {
			d += s.modules
			if l.PP > 1 || !m.task.Model.Tied { // a tied head is a copy on another stage, and none on the same
				d += s.ends
			}
		}
		if d+r > dense+routed {
			dense, routed = d, r
		}
	}
	return dense, routed
}

// optimizer is the time in which AdamW moves masters, moments, gradients and weights
// of a rank's parameters through memory.
func (m *Model) optimizer(dense, routed float64, l Layout) float64 {
	if l.ZeRO > 0 {
		dense /= float64(l.DP * l.CP)
		routed /= float64(max(1, l.DP*l.CP*l.TP/(l.EP*l.ETP)))
	}
	return m.c.byteTime * 30 * (dense + routed)
}

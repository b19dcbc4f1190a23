package engine

// layerStep is what one layer's state tensors learn from a step: everything that
// Backward saw since ZeroGrads.
type layerStep struct {
	counts []int64 // [E] choices of each expert
	logits sums    // of the router, before any noise; empty without routing warm-up
}

func (s *layerStep) clear() {
	clear(s.counts)
	s.logits = sums{}
}

// UpdateState moves the tensors that no gradient moves, by all calls of Backward since
// ZeroGrads; a learner calls it after each step that it applied.
//
//   - Router bias: up by BiasRate for an expert with fewer tokens than the mean of its
//     layer, down for one with more (arXiv 2408.15664, algorithm 1).
//   - Router statistics, during a routing warm-up: mean and variance of the step's logits
//     enter an exponential average over RoutingWarmupWindow steps, which begins with
//     the first step's own.
func (e *Engine) UpdateState() {
	for i, l := range e.layers {
		if l.w.routerBias != nil {
			l.moveBias(e.step[i].counts)
		}
		if l.w.routerStats != nil && e.step[i].logits.count > 0 {
			l.moveStats(e.step[i].logits)
		}
	}
}

func (l *layer) moveBias(counts []int64) {
	all := int64(0)
	for _, n := range counts {
		all += n
	}
	rate := float32(l.cfg.BiasRate)
	for e, n := range counts {
		switch n *= int64(len(counts)); {
		case n < all:
			l.w.routerBias[e] += rate
		case n > all:
			l.w.routerBias[e] -= rate
		}
	}
}

func (l *layer) moveStats(s sums) {
	stats, share := l.w.routerStats, 1/float64(l.cfg.RoutingWarmupWindow)
	if stats[1] <= 0 {
		share = 1
	}
	for i, now := range []float64{s.mean(), s.variance()} {
		stats[i] += float32(share * (now - float64(stats[i])))
	}
}

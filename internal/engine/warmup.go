package engine

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/rng"
)

// RoutingWarmup is what stochastic routing warm-up needs to know of a batch (Ling
// report, arXiv 2503.05139, section 3.1). While alpha = Tokens/RoutingWarmupTokens is
// below 1 the routers see
//
//	alpha·logit + (1 - alpha)·(mean + deviation·eps)
//
// in place of each logit, eps being normal, and the gradient of the logit is alpha
// times that of what they see.
type RoutingWarmup struct {
	Tokens  int64    // trained so far by the clock of the learning rate (rule D4)
	Seed    uint64   // of the run
	Samples []uint64 // [Rows] number of each sequence among the run's samples, which its noise depends on
}

// noise is the normal distribution that a sequence's noise is drawn from.
type noise struct{ mean, deviation float64 }

// sums are what mean and variance of a step's logits are made of.
type sums struct{ count, sum, squares float64 }

func (s sums) mean() float64 { return s.sum / s.count }

// variance may be computed below 0 by rounding.
func (s sums) variance() float64 { return max(0, s.squares/s.count-float64(s.mean()*s.mean())) }

func (s *sums) add(o sums) {
	s.count, s.sum, s.squares = s.count+o.count, s.sum+o.sum, s.squares+o.squares
}

// setWarmup takes over a batch's warm-up; without one, or after its end, alpha is 1.
func (e *Engine) setWarmup(w *RoutingWarmup) {
	e.alpha = 1
	if w != nil && e.cfg.RoutingWarmupTokens > 0 {
		e.alpha = min(1, float64(max(w.Tokens, 0))/float64(e.cfg.RoutingWarmupTokens))
		e.noiseSeed = w.Seed
	}
}

func (e *Engine) checkWarmup(b Batch) error {
	if b.Warmup != nil && len(b.Warmup.Samples) != b.Rows {
		return fmt.Errorf("%d sample numbers for the routing warm-up of %d sequences", len(b.Warmup.Samples), b.Rows)
	}
	return nil
}

// warm reports whether the routers see noise.
func (e *Engine) warm() bool { return e.alpha < 1 }

// measureLogits sums the logits of each sequence and says what noise it gets: that of
// the statistics so far or, before the first step has left any, of its own logits.
// No sum reaches beyond a sequence, so that how a batch is cut changes nothing.
func (l *layer) measureLogits() {
	r, size := &l.acts.routing, l.shape.seq*l.cfg.Experts
	r.sums, r.noise = r.sums[:0], r.noise[:0]
	for row := range l.shape.rows {
		s := sums{count: float64(size)}
		for _, x := range r.logits[row*size : (row+1)*size] {
			s.sum += float64(x)
			s.squares += float64(float64(x) * float64(x))
		}
		mean, variance := float64(l.w.routerStats[0]), float64(l.w.routerStats[1])
		if variance <= 0 {
			mean, variance = s.mean(), s.variance()
		}
		r.sums, r.noise = append(r.sums, s), append(r.noise, noise{mean, math.Sqrt(variance)})
	}
}

// routeNoisy is the item of the phase that stands behind the third in a warm-up: for a
// block of tokens, noise and then the router.
func (l *layer) routeNoisy(w *worker, item int) {
	w.watch.turn(RouterForward)
	from, to := block(item, tokenBlock, l.shape.tokens())
	for t := from; t < to; t++ {
		l.addNoise(t)
		l.routeToken(w, t)
	}
}

// addNoise mixes noise into the logits of token t: draw number (layer, place in the
// sequence, expert) of the stream (seed, Routing, sample), whoever computes it.
func (l *layer) addNoise(t int) {
	experts, r := l.cfg.Experts, &l.acts.routing
	row, place := t/l.shape.seq, t%l.shape.seq
	stream := rng.New(l.noiseSeed, rng.Routing, l.samples[row])
	const words = 2 // of a normal draw
	stream.Skip(words * uint64((l.index*l.shape.seq+place)*experts))
	n := r.noise[row]
	logits := r.logits[t*experts : (t+1)*experts]
	for e, x := range logits {
		drawn := n.mean + float64(n.deviation*stream.Normal())
		logits[e] = float32(float64(l.alpha*float64(x)) + float64((1-l.alpha)*drawn))
	}
}

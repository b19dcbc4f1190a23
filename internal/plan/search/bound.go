package search

import "math"

// bound says that no way to go on can be wanted. A run of total rate R and price P a
// second takes at least tokens/R seconds and costs at least P·tokens/R, so that a cost of
// at most M and a time of at most D ask for P ≤ λR with λ = M/tokens, and R ≥ tokens/D. For
// any μ ≥ 0 then P − (λ+μ)R + μ·tokens/D ≤ 0 (Lagrange), and the least of the left-hand
// side over what is left is a sum over pools, known before. A few μ are tried. Of an
// island's rate counts what exchanges leave of it in a run of D: in a shorter one they
// leave less.
type bound struct {
	options [][]*option
	islands int
	fixed   float64 // a second, whatever is chosen
	tokens  float64
	periods float64 // exchanges of the run

	rate    float64       // that is needed at least
	rates   [][]float64   // of the options, at most
	weights []float64     // λ+μ
	least   [][][]float64 // of price − weight·rate, by weight, pool and islands left
	most    [][]float64   // rate, by pool and islands left
}

// multiples are the μ, in λ.
func multiples() []float64 { return []float64{0, 0.1, 0.25, 0.5, 1, 2, 4} }

func newBound(options [][]*option, c choice, fixed, tokens float64) bound {
	b := bound{options: options, islands: c.islands, fixed: fixed, tokens: tokens}
	if c.period > 0 {
		b.periods = tokens / float64(c.period)
	}
	for _, some := range options {
		b.rates = append(b.rates, make([]float64, len(some)))
	}
	b.least = make([][][]float64, len(multiples()))
	return b
}

// set makes the bound that of plans of at most a cost and a time.
func (b *bound) set(cost, seconds float64) {
	b.rate = b.tokens / seconds
	for pool, some := range b.options {
		for i, o := range some {
			b.rates[pool][i] = o.rate * max(0, min(1, seconds/(b.periods*o.transfer))-b.periods*o.boundary/seconds)
		}
	}
	b.most = b.sums(func(_ *option, rate float64) float64 { return -rate })
	b.weights = b.weights[:0]
	if math.IsInf(cost, 1) {
		return
	}
	for i, m := range multiples() {
		w := cost / b.tokens * (1 + m)
		b.weights = append(b.weights, w)
		b.least[i] = b.sums(func(o *option, rate float64) float64 { return o.hourly/3600 - w*rate })
	}
}

// sums are the least sums of something over one option or none of each pool from one on,
// by the islands that they place.
func (b *bound) sums(of func(o *option, rate float64) float64) [][]float64 {
	out := make([][]float64, len(b.options)+1)
	for p := len(b.options); p >= 0; p-- {
		out[p] = make([]float64, b.islands+1)
		for left := range out[p] {
			out[p][left] = math.Inf(1)
		}
		if p == len(b.options) {
			out[p][0] = 0
			continue
		}
		copy(out[p], out[p+1])
		for i, o := range b.options[p] {
			x := of(o, b.rates[p][i])
			for left := o.count; left <= b.islands; left++ {
				out[p][left] = min(out[p][left], x+out[p+1][left-o.count])
			}
		}
	}
	return out
}

// slack is what sums may be off by rounding.
const slack = 1e-9

// hopeless says so of what was chosen with the pools from one on still open.
func (b *bound) hopeless(pool, left int, rate, price float64) bool {
	most := rate - b.most[pool][left]
	if math.IsInf(most, -1) || most < b.rate*(1-slack) {
		return true
	}
	for i, w := range b.weights {
		short := price - w*rate + b.least[i][pool][left] + (w-b.weights[0])*b.rate
		if short > slack*(price+w*most) {
			return true
		}
	}
	return false
}

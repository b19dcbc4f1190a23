package search

import (
	"math"
	"math/bits"
)

// bound says that no way to go on can be wanted.
//
// A run of total rate R and price P a second takes T ≥ tokens/R seconds and costs P·T, so
// that a cost of at most M and a time of at most D ask for P ≤ λR with λ = M/tokens, and R ≥
// tokens/D. For any w then P − wR is at most what follows from these (Lagrange), and its
// least value over what is left is a sum over pools, known before. A few w are tried.
//
// What exchanges leave of an island's rate depends on T: in a shorter run they leave less.
// So the times that a run may take are cut into slots, in each of which rates count as at
// its end and T is at least its beginning; a way to go on is hopeless if it is so in all.
type bound struct {
	options [][]*option
	islands int
	tokens  float64
	periods float64 // exchanges of the run
	slots   []slot
	cost    float64 // M and D as they were set
	seconds float64
}

// slot is a range of times.
type slot struct {
	from, to float64
	rate     float64       // that is needed at least
	rates    [][]float64   // of the options, at most
	most     [][]float64   // rate, by pool and islands left, negative
	weights  []weight      // by w
	least    [][][]float64 // of P − wR, by w, pool and islands left
}

// weight is a w with the most that P − wR may be.
type weight struct{ w, most float64 }

// multiples are the w, in λ.
func multiples() []float64 { return []float64{0, 0.5, 1, 1.1, 1.25, 1.5, 2, 3, 5} }

const (
	mostSlots = 64
	mostWork  = 100_000 // options × islands × slots: with more, bounds take longer than they save
	slotRatio = 1.1
	slack     = 1e-9 // what sums may be off by rounding
	unworthy  = 0.01 // improvements that do not make the bound anew
)

func newBound(options [][]*option, c choice, tokens float64) *bound {
	b := &bound{options: options, islands: c.islands, tokens: tokens, cost: math.Inf(1), seconds: math.Inf(1)}
	if c.period > 0 {
		b.periods = tokens / float64(c.period)
	}
	free := slot{rates: b.ratesAt(math.Inf(1))}
	work := 1
	for _, some := range options {
		work += len(some) * c.islands
	}
	first := tokens / -b.sums(free.rates, func(_ *option, rate float64) float64 { return -rate })[0][b.islands]
	last := first
	for _, some := range options {
		for _, o := range some {
			last = max(last, b.periods*o.transfer)
		}
	}
	count := min(mostSlots-1, mostWork/work, int(math.Ceil(math.Log(last/first)/math.Log(slotRatio))))
	from := 0.0
	for i := range count {
		to := first * math.Pow(last/first, float64(i+1)/float64(count))
		b.slots = append(b.slots, slot{from: from, to: to})
		from = to
	}
	b.slots = append(b.slots, slot{from: from, to: math.Inf(1)})
	return b
}

// ratesAt are the rates that exchanges leave in a run of some seconds or less.
func (b *bound) ratesAt(seconds float64) [][]float64 {
	var all [][]float64
	for _, some := range b.options {
		rates := make([]float64, len(some))
		for i, o := range some {
			rates[i] = o.rate * max(0, min(1, seconds/(b.periods*o.transfer))-b.periods*o.boundary/seconds)
		}
		all = append(all, rates)
	}
	return all
}

// set makes the bound that of plans of at most a cost and a time.
func (b *bound) set(cost, seconds float64) {
	b.cost, b.seconds = cost, seconds
	for i := range b.slots {
		if s := &b.slots[i]; s.from <= seconds {
			b.fill(s)
		}
	}
}

// tighten does so if it is worth it, and the bound is in use.
func (b *bound) tighten(cost, seconds float64) {
	if b.slots[0].rates != nil && (cost < b.cost*(1-unworthy) || seconds < b.seconds*(1-unworthy)) {
		b.set(cost, seconds)
	}
}

// fill makes one slot's.
func (b *bound) fill(s *slot) {
	to := min(s.to, b.seconds)
	s.rate = b.tokens / to
	s.rates = b.ratesAt(to)
	s.most = b.sums(s.rates, func(_ *option, rate float64) float64 { return -rate })
	s.weights, s.least = s.weights[:0], s.least[:0]
	if math.IsInf(b.cost, 1) {
		return
	}
	each := b.cost / b.tokens
	for _, m := range multiples() {
		w := m * each
		// P ≤ λR and R ≥ rate, or with less weight than λ P ≤ M/from.
		most := -(w - each) * s.rate
		if m < 1 {
			if s.from == 0 {
				continue
			}
			most = b.cost/s.from - w*s.rate
		}
		s.weights = append(s.weights, weight{w, most})
		s.least = append(s.least, b.sums(s.rates, func(o *option, rate float64) float64 { return o.hourly/3600 - w*rate }))
	}
}

// sums are the least sums of something over one option or none of each pool from one on,
// by the islands that they place.
func (b *bound) sums(rates [][]float64, of func(o *option, rate float64) float64) [][]float64 {
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
			x := of(o, rates[p][i])
			for left := o.count; left <= b.islands; left++ {
				out[p][left] = min(out[p][left], x+out[p+1][left-o.count])
			}
		}
	}
	return out
}

// state is what was chosen, as the bound sees it.
type state struct {
	open  uint64 // slots that are not hopeless, as bits
	rates [mostSlots]float64
	price float64 // a second
}

// begin is nothing chosen.
func (b *bound) begin(fixed float64) state {
	return state{open: ^uint64(0) >> (64 - len(b.slots)), price: fixed}
}

// with adds an option.
func (b *bound) with(s *state, pool, i int) state {
	next := *s
	next.price += b.options[pool][i].hourly / 3600
	for open := s.open; open != 0; open &= open - 1 {
		k := bits.TrailingZeros64(open)
		next.rates[k] += b.slots[k].rates[pool][i]
	}
	return next
}

// hopeless says so of what was chosen with the pools from one on still open.
func (b *bound) hopeless(s *state, pool, left int) bool {
	for open := s.open; open != 0; open &= open - 1 {
		if k := bits.TrailingZeros64(open); b.closed(&b.slots[k], s.rates[k], s.price, pool, left) {
			s.open &^= 1 << k
		}
	}
	return s.open == 0
}

// closed says that no run ends in a slot.
func (b *bound) closed(s *slot, rate, price float64, pool, left int) bool {
	if s.from > b.seconds {
		return true
	}
	most := rate - s.most[pool][left]
	if math.IsInf(most, -1) || most < s.rate*(1-slack) {
		return true
	}
	for i, w := range s.weights {
		if price-w.w*rate+s.least[i][pool][left] > w.most+slack*(price+w.w*most) {
			return true
		}
	}
	return false
}

// guesses are combinations that are likely good: those of the least P − wR, for some w and
// with the rates of each slot.
func (b *bound) guesses() [][]*option {
	each := math.Inf(1) // the least price of a rate
	for _, some := range b.options {
		for _, o := range some {
			each = min(each, o.hourly/3600/o.rate)
		}
	}
	var all [][]*option
	for _, s := range b.slots {
		rates := b.ratesAt(s.to)
		for _, m := range []float64{0.5, 1, 1.25, 1.5, 2, 3, 6, 100} {
			of := func(o *option, rate float64) float64 { return o.hourly/3600 - m*each*rate }
			if each == 0 { // without prices, or what is owned
				of = func(_ *option, rate float64) float64 { return -rate }
			}
			if chosen := b.trace(rates, b.sums(rates, of), of); chosen != nil {
				all = append(all, chosen)
			}
		}
	}
	return all
}

// trace finds the options that make the least sum; nil: none place all islands.
func (b *bound) trace(rates, sums [][]float64, of func(*option, float64) float64) []*option {
	var chosen []*option
	left := b.islands
	for pool, some := range b.options {
		if sums[pool][left] == sums[pool+1][left] {
			continue
		}
		for i, o := range some {
			if o.count <= left && of(o, rates[pool][i])+sums[pool+1][left-o.count] == sums[pool][left] {
				chosen, left = append(chosen, o), left-o.count
				break
			}
		}
	}
	if left > 0 {
		return nil
	}
	return chosen
}

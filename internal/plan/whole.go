package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Keeping is how a run guards against losing work.
type Keeping struct {
	Checkpoint float64 // seconds of training between two checkpoints; 0: as Every says
	Restart    float64 // seconds from an interruption until training goes on; 0: 600
}

// Filled is with the default of restarts.
func (k Keeping) Filled() Keeping {
	if k.Restart == 0 {
		k.Restart = 600
	}
	return k
}

// Bounds of the interval between checkpoints that nobody stated: storage has to take one
// before the next, and nobody wants to lose more than an hour.
const (
	shortest = 600
	longest  = 3600
)

// Every is the interval between an island's checkpoints in seconds: the one stated, or
// that which loses least, √(2 · save · mean time between interruptions) (Young, CACM
// 1974), within bounds; where nobody knows how often they come, the longest.
func (k Keeping) Every(m Members) float64 {
	switch {
	case k.Checkpoint > 0:
		return k.Checkpoint
	case m.MTBF == 0:
		return longest
	}
	return min(max(math.Sqrt(2*m.Save.Mid*m.MTBF/float64(m.Chips)), shortest), longest)
}

// OncePerYear is the most often that a chip is taken to be interrupted where nobody
// knows: seconds of one chip between interruptions.
const OncePerYear = 8760 * 3600

// Members are islands of a run that are alike.
type Members struct {
	Name     string
	Count    int     // islands
	Chips    int     // of each
	Batch    int     // sequences of a step of each
	Step     Range   // seconds
	Boundary Range   // seconds that one exchange of the whole model holds training up, at step boundaries
	Transfer float64 // seconds in which its link carries the whole model, up and down at the same time
	Save     Range   // seconds that a checkpoint holds training up
	MTBF     float64 // seconds of a chip between interruptions; 0: not known
	Unknown  []string
}

// Whole is a run of islands that do not wait for each other.
type Whole struct {
	Tokens   int64
	Sequence int
	Period   int64 // fleet tokens between two merges of a fragment; 0: a lone island, no exchange
	Keeping  Keeping
	Members  []Members
}

// Line is a share of a run's time.
type Line struct {
	Name    string  `json:"name"`
	Low     float64 `json:"low"` // seconds
	Mid     float64 `json:"mid"`
	High    float64 `json:"high"`
	Formula string  `json:"formula"`
	Unknown string  `json:"unknown,omitempty"` // what is not known of it: in High only, at its worst
}

// Run is what a whole run takes.
type Run struct {
	Steps   int64 // of all islands' batches together
	Seconds Range
	Lines   []Line
	Rates   []float64 // tokens/s of one island of each kind of members, everything counted
	Shares  []float64 // of all tokens, of one island of each
}

// The lines of a run, in the order in which each is added to those before it.
const (
	training = iota
	boundary
	linkBound
	checkpoints
	interruptions
	restarts
	lines
)

// Batch is how many sequences the islands' steps have together.
func (w Whole) Batch() int {
	n := 0
	for _, m := range w.Members {
		n += m.Count * m.Batch
	}
	return n
}

// Steps is how many steps of all islands' batches the tokens make: whole ones.
func (w Whole) Steps() int64 {
	each := int64(w.Batch()) * int64(w.Sequence)
	return (w.Tokens + each - 1) / each
}

// Run adds up a whole run. Islands take tokens by their speed, and none waits for another.
func (w Whole) Run() Run {
	w.Keeping = w.Keeping.Filled()
	r := Run{Steps: w.Steps()}
	var at [3][lines]float64
	for i := range at {
		at[i] = w.times(i)
	}
	total := func(i int) float64 { return at[i][lines-1] }
	r.Seconds = Range{total(0), total(1), total(2)}
	for line, formula := range w.formulas(r.Steps) {
		each := func(i int) float64 {
			if line == 0 {
				return at[i][0]
			}
			return at[i][line] - at[i][line-1]
		}
		if line > 0 && each(2) == 0 && formula.Unknown == "" {
			continue
		}
		formula.Low, formula.Mid, formula.High = each(0), each(1), each(2)
		r.Lines = append(r.Lines, formula)
	}
	for _, m := range w.Members {
		f := w.flow(m, 1, lines-1)
		tokens := f.tokens(r.Seconds.Mid)
		r.Rates = append(r.Rates, tokens/r.Seconds.Mid)
		r.Shares = append(r.Shares, tokens/w.trained())
	}
	return r
}

// trained is the tokens of whole steps.
func (w Whole) trained() float64 {
	return float64(w.Steps()) * float64(w.Batch()) * float64(w.Sequence)
}

// times are the seconds of the run with the lines up to each, at the low, middle or high.
func (w Whole) times(side int) (at [lines]float64) {
	flows := make([]Flow, len(w.Members))
	for line := range at {
		for i, m := range w.Members {
			flows[i] = w.flow(m, side, line)
			flows[i].Rate *= float64(m.Count)
		}
		at[line] = Finish(w.trained(), flows)
	}
	return at
}

// flow is an island with the lines up to one.
func (w Whole) flow(m Members, side, upTo int) Flow {
	f := Flow{Rate: float64(m.Batch) * float64(w.Sequence) / side3(m.Step, side)}
	if w.Period > 0 {
		periods := w.trained() / float64(w.Period)
		if upTo >= boundary {
			f.Held = periods * side3(m.Boundary, side)
		}
		if upTo >= linkBound {
			f.Link = periods * m.Transfer
		}
	}
	if upTo >= checkpoints {
		f.Rate /= 1 + side3(m.Save, side)/w.Keeping.Every(m)
	}
	if upTo >= interruptions {
		again, restart := w.Keeping.Lost(m, side == 2)
		if upTo < restarts {
			restart = 0
		}
		f.Rate /= 1 + again + restart
	}
	return f
}

// Lost is what interruptions of an island's chips take for each second of training: half
// a checkpoint's interval to do again, and the restart. Where nobody knows how often
// they come it is nothing, or at the worst what a chip a year makes.
func (k Keeping) Lost(m Members, worst bool) (again, restart float64) {
	mtbf := m.MTBF
	if mtbf == 0 {
		if !worst {
			return 0, 0
		}
		mtbf = OncePerYear
	}
	often := float64(m.Chips) / mtbf
	return often * k.Every(m) / 2, often * k.Filled().Restart
}

func side3(r Range, side int) float64 { return [3]float64{r.Low, r.Mid, r.High}[side] }

// Flow is islands' training over a run: tokens/s while they train, seconds of the run
// that exchanges hold them up, and seconds that their link needs for all exchanges. An
// island whose link cannot carry its exchanges within the run trains a part only: for a
// transfer's time it may do one period's work.
type Flow struct{ Rate, Held, Link float64 }

// tokens is what it trains in some seconds.
func (f Flow) tokens(seconds float64) float64 {
	works := seconds
	if f.Link > seconds {
		works = seconds * seconds / f.Link
	}
	return f.Rate * max(0, works-f.Held)
}

// Finish is when flows have trained so many tokens together, each at its own speed.
func Finish(tokens float64, flows []Flow) float64 {
	rate, held, link := 0.0, 0.0, 0.0
	for _, f := range flows {
		rate += f.Rate
		held += f.Rate * f.Held
		link = max(link, f.Link)
	}
	low := (tokens + held) / rate
	if link <= low && !slices.ContainsFunc(flows, func(f Flow) bool { return f.Held > low }) {
		return low
	}
	enough := func(seconds float64) bool {
		n := 0.0
		for _, f := range flows {
			n += f.tokens(seconds)
		}
		return n >= tokens
	}
	low = tokens / rate
	high := low + link
	for _, f := range flows {
		high += f.Held
	}
	for range 60 {
		if mid := (low + high) / 2; enough(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// formulas are the lines without their times.
func (w Whole) formulas(steps int64) [lines]Line {
	often, strange := w.often()
	k := w.Keeping
	out := [lines]Line{
		training: {Name: "training", Formula: fmt.Sprintf("%d steps = ⌈%d tokens / (%d sequences × %d)⌉, at %s", steps, w.Tokens, w.Batch(), w.Sequence,
			w.each(" + ", func(m Members) string {
				return fmt.Sprintf("%d × %d sequences in %.4g s", m.Count, m.Batch, m.Step.Mid)
			}))},
		checkpoints:   {Name: "checkpoints", Formula: "copies to hosts, " + w.each(", ", func(m Members) string { return fmt.Sprintf("%.3g s each %.0f s", m.Save.Mid, k.Every(m)) }) + "; written beside training"},
		interruptions: {Name: "interruptions", Formula: often + " × half of a checkpoint's interval to do again", Unknown: strange},
		restarts:      {Name: "restarts", Formula: fmt.Sprintf("%s × %.0f s", often, k.Restart), Unknown: strange},
	}
	out[checkpoints].Unknown = w.each("; ", func(m Members) string { return strings.Join(m.Unknown, "; ") })
	if w.Period > 0 {
		out[boundary] = Line{Name: "exchange, at step boundaries", Unknown: out[checkpoints].Unknown,
			Formula: fmt.Sprintf("%.0f exchanges of the model × %s of copies between chips and hosts", math.Ceil(w.trained()/float64(w.Period)), w.each(", ", func(m Members) string { return fmt.Sprintf("%.3g s", m.Boundary.Mid) }))}
		out[linkBound] = Line{Name: "exchange, beyond what links carry",
			Formula: fmt.Sprintf("%s on links, where that is longer than a period of %d tokens", w.each(", ", func(m Members) string { return fmt.Sprintf("%.3g s", m.Transfer) }), w.Period)}
	}
	return out
}

// each says something of all members that have something to say.
func (w Whole) each(between string, say func(Members) string) string {
	var all []string
	for _, m := range w.Members {
		if s := say(m); s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, between)
}

// often says how often islands are interrupted, and of which nobody knows.
func (w Whole) often() (known, strange string) {
	known = w.each(", ", func(m Members) string {
		if m.MTBF == 0 {
			return fmt.Sprintf("at the worst %d chips / 8760 h", m.Chips)
		}
		return fmt.Sprintf("%d chips / %.0f h", m.Chips, m.MTBF/3600)
	})
	return known, w.each("; ", func(m Members) string {
		if m.MTBF > 0 {
			return ""
		}
		return "how often chips of " + m.Name + " are interrupted is not known: at most once a year, 8760 h"
	})
}

// Rate is tokens/s of one of the members, checkpoints and interruptions counted, exchanges
// not.
func (w Whole) Rate(m Members) float64 {
	w.Keeping, w.Period = w.Keeping.Filled(), 0
	return w.flow(m, 1, lines-1).Rate
}

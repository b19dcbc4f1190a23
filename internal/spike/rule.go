package spike

import (
	"fmt"
	"math"
)

// Verdict is what to do with a step.
type Verdict string

// The verdicts. Samples that spike get one more try: only then do HalfRate and Skip
// follow.
const (
	Apply    Verdict = "applied"
	Withhold Verdict = "withheld"  // nothing changes; its samples are tried once more
	HalfRate Verdict = "half_rate" // applied at half the learning rate
	Skip     Verdict = "skipped"   // nothing changes; its samples are given up
)

// Decision is a verdict with what it rests on.
type Decision struct {
	Verdict Verdict
	Spike   bool    // else the verdict is Apply
	Finite  bool    // loss and gradient norm are numbers
	Judged  bool    // the loss was compared: the window is full
	Median  float64 // of the window, when Judged
	Bound   float64 // a loss above it is a spike, when Judged
	Reason  string  // of a spike, for people
}

// deviation turns a median absolute deviation into a standard deviation, for a
// normal distribution (1/Φ⁻¹(3/4); Hampel 1974).
const deviation = 1.4826

// Rule is the state of the rule at one learner: the window. The zero value is not
// usable: see New.
type Rule struct {
	cfg    Config
	window window
}

// New is a rule that has seen nothing. It panics on a config that is not valid.
func New(cfg Config) *Rule {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	return &Rule{cfg: cfg}
}

// Judge decides about a step before anything of it is applied. Retry: its samples
// have spiked before. The step's own loss is not in the window yet: Add it afterwards.
func (r *Rule) Judge(loss, norm float64, retry bool) Decision {
	d := Decision{Verdict: Apply, Finite: finite(loss) && finite(norm), Judged: r.cfg.Factor > 0 && r.window.len() == r.cfg.Window}
	if d.Judged {
		d.Median = r.window.median()
		d.Bound = d.Median + max(r.cfg.Factor*deviation*r.window.spread(d.Median), r.cfg.FloorNats)
	}
	switch {
	case !finite(loss):
		d.Spike, d.Reason = true, "the loss is not finite"
	case !finite(norm):
		d.Spike, d.Reason = true, "the gradient norm is not finite"
	case d.Judged && loss > d.Bound:
		d.Spike, d.Reason = true, fmt.Sprintf("loss %.4g is above %.4g, the median is %.4g", loss, d.Bound, d.Median)
	}
	switch {
	case !d.Spike:
	case !retry:
		d.Verdict = Withhold
	case d.Finite:
		d.Verdict = HalfRate
	default:
		d.Verdict = Skip
	}
	return d
}

// Add puts the loss of a step into the window, whatever became of the step: when
// losses rise for good, the median follows and the steps are applied again. One that
// is not finite says nothing and is left out.
func (r *Rule) Add(loss float64) {
	if finite(loss) {
		r.window.add(loss, r.cfg.Window)
	}
}

// Losses is the window, oldest first: the whole state of the rule.
func (r *Rule) Losses() []float64 { return append([]float64(nil), r.window.order...) }

// Restore takes over a saved window; of one that was longer the newest losses.
func (r *Rule) Restore(losses []float64) {
	r.window = window{}
	for _, x := range losses {
		r.Add(x)
	}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

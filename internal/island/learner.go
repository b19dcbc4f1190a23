package island

import (
	"fmt"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
)

// Learner is one replica's part of the exchange, whoever trains it: fragments, leases,
// positions and the clock. One goroutine owns it.
type Learner struct {
	run      runfile.Run
	trainer  trainer
	schedule engine.Schedule

	fragments []*exchange
	leases    leases
	step      uint64 // inner steps of this incarnation
	position  int64  // samples used by this incarnation, in lease order
	surplus   int64  // tokens of own data that were trained beyond the lease
	withheld  int64  // samples in steps that were not applied
	skipped   uint64 // those steps
	rule      *spike.Rule

	clock     clock
	joinSteps int64 // steps since it joined with zero moments in mid-run; -1: it did not
	expert    []int64
	adoptions []adoption

	samples []uint64 // of one step
}

// clock counts the tokens that rate and schedule depend on: the stamp of the
// fragment adopted last, and what this learner has trained since it sent what
// that stamp counts (D4). With one island that is its own token count.
type clock struct {
	stamp int64 // tokens
	own   int64 // own tokens when the contribution behind stamp was sent
}

func (c clock) at(own int64) int64 { return c.stamp + own - c.own }

// StepStats describes one inner step.
type StepStats struct {
	Loss         float64 // mean next-token loss, nats; NaN when not finite
	GradientNorm float64 // before clipping
	ExpertLoad   float64 // busiest expert over mean, worst layer; 0 without experts
	Rate         float64
	Tokens       int64
	Applied      bool  // false: nothing changed
	Again        bool  // its samples follow once more, for it overflowed under the loss scale
	From, To     int64 // positions of its samples
	Retry        bool  // they were in a step that was withheld
	Decision     spike.Decision
	Seconds      float64 // as the trainer took the time; 0: it did not
	BusySeconds  float64 // of them, without waiting inside the island; 0: unknown
}

// NewLearner makes a replica for a resolved run that computes with the kernel set
// (nil: the fastest there is) and emulates the profile (nil: nothing); its weights
// are zero until it is seeded.
func NewLearner(run runfile.Run, data *corpus.Set, threads int, set *kernel.Set, profile *numeric.Profile) (*Learner, error) {
	n, err := newNative(run, data, threads, set, profile)
	if err != nil {
		return nil, err
	}
	return newLearner(run, n), nil
}

// cut is the model's fragments.
func (l *Learner) cut() (out []fragment.Fragment) {
	for _, f := range l.fragments {
		out = append(out, f.Fragment)
	}
	return out
}

func newLearner(run runfile.Run, t trainer) *Learner {
	experts := run.Model.Layers * run.Model.Experts
	return &Learner{
		run: run, trainer: t, schedule: ScheduleOf(run), rule: spike.New(run.SpikeRule()), expert: make([]int64, experts), joinSteps: -1,
		fragments: newFragments(run.Table(), experts, run.Exchange.Fragments),
	}
}

// newFragments is the exchange state of every fragment at version 0.
func newFragments(tensors []model.Tensor, experts, count int) []*exchange {
	var out []*exchange
	for p, f := range fragment.Split(tensors, count) {
		out = append(out, &exchange{Fragment: f, index: p, anchor: make([]float32, f.Size), sentExperts: make([]int64, experts)})
	}
	return out
}

// ScheduleOf is the learning rate schedule of a resolved run.
func ScheduleOf(run runfile.Run) engine.Schedule {
	total := run.TotalSamples() * int64(run.Train.SequenceTokens)
	return engine.Schedule{
		PeakRate: run.Train.PeakRate, FinalRate: run.Train.FinalRate, WarmupTokens: int64(run.Train.WarmupTokens),
		DecayFromTokens: total - int64(run.Train.DecayTokens), TotalTokens: total, Shape: run.Train.Shape,
	}
}

// Close frees what trains.
func (l *Learner) Close() { l.trainer.Close() }

// Lease adds the samples from <= n < to behind those it has.
func (l *Learner) Lease(from, to int64) { l.leases.add(span{from, to, false}) }

// Left is the number of samples leased and not trained.
func (l *Learner) Left() int64 { return l.leases.left() }

// Params are the weights of a native learner, flat in model order.
func (l *Learner) Params() []float32 { return l.trainer.(*native).engine.Params() }

// ownTokens is what this incarnation has trained, without what was withheld.
func (l *Learner) ownTokens() int64 {
	return (l.position - l.withheld) * int64(l.run.Train.SequenceTokens)
}

// Step trains the next samples of the lease and waits for the end of the step. The lease
// must hold at least one.
func (l *Learner) Step() (StepStats, error) {
	t, err := l.next()
	if err != nil {
		return StepStats{}, err
	}
	return l.finish(t, <-l.trainer.begin(t))
}

// next is the next step to make.
func (l *Learner) next() (*task, error) {
	t := &task{tokens: l.run.StepTokens()}
	if l.Left() == 0 {
		return nil, fmt.Errorf("inner step %d: no samples are leased", l.step+1)
	}
	if !l.run.Data.Own {
		l.samples, t.retry = l.leases.next(l.samples[:0], l.run.StepSamples())
		t.samples, t.tokens = l.samples, int64(len(l.samples))*int64(l.run.Train.SequenceTokens)
	}
	t.clock = l.clock.at(l.ownTokens()) + t.tokens
	t.left, t.seen = l.Left(), l.clock.stamp
	t.rate = l.schedule.Rate(t.clock) * l.joinerFactor()
	t.judge = func(loss, norm float64) spike.Decision {
		d := l.rule.Judge(loss, norm, t.retry)
		l.rule.Add(loss)
		return d
	}
	return t, nil
}

// finish counts a step. One that is not applied uses its samples up all the same.
func (l *Learner) finish(t *task, o outcome) (StepStats, error) {
	if o.err != nil {
		return StepStats{}, fmt.Errorf("inner step %d: %w", l.step+1, o.err)
	}
	l.step++
	s := StepStats{
		Loss: o.loss, GradientNorm: o.norm, ExpertLoad: l.load(o.experts), Rate: o.rate, Tokens: o.tokens,
		Applied: o.applied, Again: o.again, From: l.position, To: l.position, Retry: t.retry, Decision: o.decision,
		Seconds: o.seconds, BusySeconds: o.busy,
	}
	withheld := !applies(o.decision)
	switch {
	case o.again: // no spike: the same samples are trained in the next step
		l.leases.back(t.samples, t.retry)
		s.Loss = math.NaN()
	case !l.run.Data.Own:
		l.position += int64(len(t.samples))
	case !withheld: // own data cannot be asked for again: what was not applied does not count
		l.surplus += o.tokens
		l.useSurplus()
	}
	s.To = l.position
	if o.again || withheld {
		l.skipped++
		l.withheld += s.To - s.From
		if !o.decision.Finite {
			s.Loss = math.NaN() // shown as non-finite, whatever the forward pass said
		}
		return s, nil
	}
	if l.joinSteps >= 0 {
		l.joinSteps++
	}
	l.route(o)
	return s, nil
}

// route counts the tokens that each expert has seen. Of a step that does not tell, every
// expert counts the mean: with none it would be left out of a merge with islands that
// tell, and what it has learnt be lost.
func (l *Learner) route(o outcome) {
	if len(o.experts) == 0 && len(l.expert) > 0 {
		visits, experts := o.tokens*int64(l.run.Model.TopK), int64(l.run.Model.Experts)
		o.experts = slices.Repeat([]int64{(visits + experts - 1) / experts}, len(l.expert))
	}
	for i, n := range o.experts {
		l.expert[i] += n
	}
}

// applies says whether a step so decided is applied.
func applies(d spike.Decision) bool { return d.Verdict != spike.Withhold && d.Verdict != spike.Skip }

// useSurplus counts own data as samples, as far as the lease reaches.
func (l *Learner) useSurplus() {
	n := min(l.surplus, l.leases.left())
	l.leases.drop(n)
	l.position += n
	l.surplus -= n
}

// joinerFactor raises the rate of a learner that joined in mid-run with zero
// moments over 1/(1-β₂) steps (L3): until then its second moments say little.
func (l *Learner) joinerFactor() float64 {
	if l.joinSteps < 0 {
		return 1
	}
	return min(1, float64(l.joinSteps+1)*(1-l.run.Train.Beta2))
}

// forgetMoments starts the optimizer anew, as a joiner's.
func (l *Learner) forgetMoments() {
	l.trainer.forget()
	l.joinSteps = 0
}

// load is the busiest expert's tokens over the mean, in the worst layer.
func (l *Learner) load(tokens []int64) float64 {
	experts := l.run.Model.Experts
	worst := 0.0
	for from := 0; experts > 0 && from+experts <= len(tokens); from += experts {
		var most, all int64
		for _, n := range tokens[from : from+experts] {
			most, all = max(most, n), all+n
		}
		if all > 0 {
			worst = max(worst, float64(most)*float64(experts)/float64(all))
		}
	}
	return worst
}

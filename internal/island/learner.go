package island

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
)

// Learner is one replica and its part of the exchange. One goroutine owns it.
type Learner struct {
	run      runfile.Run
	engine   *engine.Engine
	adam     *engine.AdamW
	schedule engine.Schedule
	data     *corpus.Set
	order    corpus.Order

	fragments []*exchange
	leases    leases
	step      uint64 // inner steps of this incarnation
	position  int64  // samples used by this incarnation, in lease order
	withheld  int64  // of them in steps that were not applied
	skipped   uint64 // those steps
	rule      *spike.Rule
	spoil     func(samples []uint64, grads []float32) // tests spoil gradients with it; nil: nobody does
	scaling   lossScaling

	clock     clock
	joinSteps int64 // steps since it joined with zero moments in mid-run; -1: it did not
	expert    []int64
	adoptions []adoption

	reserve reserve
	tokens  []int32  // of one micro-batch: rows of sequence+1
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
	From, To     int64 // positions of its samples
	Retry        bool  // they were in a step that was withheld
	Decision     spike.Decision
}

// NewLearner makes a replica for a resolved run that computes with the kernel set
// (nil: the fastest there is) and emulates the profile (nil: nothing); its weights
// are zero until it is seeded.
func NewLearner(run runfile.Run, data *corpus.Set, threads int, set *kernel.Set, profile *numeric.Profile) (*Learner, error) {
	if set == nil {
		var err error
		if set, err = kernel.New(""); err != nil {
			return nil, fmt.Errorf("choosing kernels: %w", err)
		}
	}
	cfg := run.Model.Config
	eng, err := engine.New(cfg, engine.Options{Threads: threads, Kernel: set, Numeric: profile})
	if err != nil {
		return nil, fmt.Errorf("making the engine: %w", err)
	}
	t := run.Train
	l := &Learner{
		run: run, engine: eng, data: data,
		adam: engine.NewAdamWOn(set, cfg, engine.AdamWConfig{
			Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay, ClipNorm: t.ClipNorm,
		}, threads),
		schedule:  ScheduleOf(run),
		order:     corpus.NewOrder(run.Seed, data.Train.Windows(t.SequenceTokens)),
		rule:      spike.New(run.SpikeRule()),
		expert:    make([]int64, cfg.Layers*cfg.Experts),
		joinSteps: -1,
		scaling:   newLossScaling(profile, run.StepTokens()),
	}
	l.fragments = newFragments(run.Table(), cfg.Layers*cfg.Experts, run.Exchange.Fragments)
	return l, nil
}

// ScheduleOf is the learning rate schedule of a resolved run.
func ScheduleOf(run runfile.Run) engine.Schedule {
	total := run.TotalSamples() * int64(run.Train.SequenceTokens)
	return engine.Schedule{
		PeakRate: run.Train.PeakRate, FinalRate: run.Train.FinalRate, WarmupTokens: int64(run.Train.WarmupTokens),
		DecayFromTokens: total - int64(run.Train.DecayTokens), TotalTokens: total, Shape: run.Train.Shape,
	}
}

// Close frees the engine's workers.
func (l *Learner) Close() { l.engine.Close() }

// Lease adds the samples from <= n < to behind those it has.
func (l *Learner) Lease(from, to int64) { l.leases.add(span{from, to, false}) }

// Left is the number of samples leased and not trained.
func (l *Learner) Left() int64 { return l.leases.left() }

// Params are the weights, flat in model order.
func (l *Learner) Params() []float32 { return l.engine.Params() }

// ownTokens is what this incarnation has trained, without what was withheld.
func (l *Learner) ownTokens() int64 {
	return (l.position - l.withheld) * int64(l.run.Train.SequenceTokens)
}

// Step trains the next samples of the lease. It must hold at least one. The spike rule
// decides before anything is applied; a step that is not uses its samples up all the
// same, and leaves weights, moments and bias correction alone.
func (l *Learner) Step() (StepStats, error) {
	var retry bool
	l.samples, retry = l.leases.next(l.samples[:0], l.run.StepSamples())
	if len(l.samples) == 0 {
		return StepStats{}, fmt.Errorf("inner step %d: no samples are leased", l.step+1)
	}
	count := int64(len(l.samples))
	s := StepStats{
		Tokens: count * int64(l.run.Train.SequenceTokens), From: l.position, To: l.position + count, Retry: retry,
	}
	clock := l.clock.at(l.ownTokens()) + s.Tokens
	batch, err := l.backward(clock)
	if err != nil {
		return StepStats{}, fmt.Errorf("inner step %d: %w", l.step+1, err)
	}
	if l.spoil != nil {
		l.spoil(l.samples, l.engine.Grads())
	}
	l.engine.ScaleGrads(1 / (float32(batch.Tokens) * l.scaling.factor()))
	s.Loss, s.GradientNorm, s.ExpertLoad = batch.Loss(), l.adam.Norm(l.engine.Grads()), l.load(batch.ExpertTokens)
	if l.engine.Overflowed() {
		s.GradientNorm = math.Inf(1) // of gradients that a chip without infinity has cut
	}
	s.Rate = l.schedule.Rate(clock) * l.joinerFactor()
	l.step++
	if l.scaling.tooLarge(s) {
		return l.again(s), nil
	}
	s.Decision = l.rule.Judge(s.Loss, s.GradientNorm, retry)
	l.rule.Add(s.Loss)
	l.scaling.after(!s.Decision.Finite)
	l.position += count
	return l.finish(s, batch), nil
}

// again is the end of a step whose gradient overflowed under the loss scale, which is
// no spike: the scale halves, and the same samples are trained in the next step.
func (l *Learner) again(s StepStats) StepStats {
	l.scaling.after(true)
	l.leases.back(l.samples, s.Retry)
	l.skipped++
	s.Loss, s.To = math.NaN(), s.From
	return s
}

// finish applies the step as it was decided.
func (l *Learner) finish(s StepStats, batch engine.BatchStats) StepStats {
	switch s.Decision.Verdict {
	case spike.HalfRate:
		s.Rate /= 2
	case spike.Withhold, spike.Skip:
		l.skipped++
		l.withheld += s.To - s.From
		if !s.Decision.Finite {
			s.Loss = math.NaN() // shown as non-finite, whatever the forward pass said
		}
		return s
	}
	s.Applied = l.adam.Apply(l.engine.Params(), l.engine.Grads(), s.GradientNorm, s.Rate)
	l.engine.UpdateState()
	if l.joinSteps >= 0 {
		l.joinSteps++
	}
	for i, n := range batch.ExpertTokens {
		l.expert[i] += n
	}
	return s
}

// backward accumulates the gradient of the summed token loss over the step's
// micro-batches; clock is in tokens.
func (l *Learner) backward(clock int64) (engine.BatchStats, error) {
	seq := l.run.Train.SequenceTokens
	l.engine.ZeroGrads()
	l.engine.SetLossFactor(l.scaling.factor())
	sum := engine.BatchStats{ExpertTokens: make([]int64, len(l.expert))}
	for first := 0; first < len(l.samples); first += l.run.Train.BatchSequences {
		rows := min(l.run.Train.BatchSequences, len(l.samples)-first)
		l.tokens = grow(l.tokens, rows*(seq+1))
		for r := range rows {
			if err := l.data.Train.Sample(l.order, l.samples[first+r], seq, l.tokens[r*(seq+1):(r+1)*(seq+1)]); err != nil {
				return sum, err
			}
		}
		b, err := l.engine.Backward(engine.Batch{
			Tokens: l.tokens, Rows: rows,
			Boundaries: l.run.Train.DocumentBoundaries, EndToken: corpus.EndOfDocument,
			Warmup: &engine.RoutingWarmup{Tokens: clock, Seed: l.run.Seed, Samples: l.samples[first : first+rows]},
		})
		if err != nil {
			return sum, err
		}
		sum.Add(b)
	}
	return sum, nil
}

// joinerFactor raises the rate of a learner that joined in mid-run with zero
// moments over 1/(1-β₂) steps (L3): until then its second moments say little.
func (l *Learner) joinerFactor() float64 {
	if l.joinSteps < 0 {
		return 1
	}
	return min(1, float64(l.joinSteps+1)*(1-l.run.Train.Beta2))
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

func grow(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

// newFragments is the exchange state of every fragment at version 0.
func newFragments(tensors []model.Tensor, experts, count int) []*exchange {
	var out []*exchange
	for _, f := range fragment.Split(tensors, count) {
		out = append(out, &exchange{Fragment: f, anchor: make([]float32, f.Size), sentExperts: make([]int64, experts)})
	}
	return out
}

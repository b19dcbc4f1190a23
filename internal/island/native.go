package island

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/wire"
)

// native trains with the engine of this program, on samples of the run's data.
type native struct {
	run     runfile.Run
	engine  *engine.Engine
	adam    *engine.AdamW
	data    *corpus.Set
	order   corpus.Order
	spoil   func(samples []uint64, grads []float32) // tests spoil gradients with it; nil: nobody does
	faults  GateFaults
	profile *numeric.Profile // nil: fp32
	scaling lossScaling

	reserve reserve
	tokens  []int32 // of one micro-batch: rows of sequence+1
}

// newNative makes an engine whose weights are zero until they are installed.
func newNative(run runfile.Run, data *corpus.Set, threads int, set *kernel.Set, profile *numeric.Profile) (*native, error) {
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
	return &native{
		run: run, engine: eng, data: data, profile: profile,
		adam: engine.NewAdamWOn(set, cfg, engine.AdamWConfig{
			Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay, ClipNorm: t.ClipNorm,
		}, threads),
		order:   corpus.NewOrder(run.Seed, data.Train.Windows(t.SequenceTokens)),
		scaling: newLossScaling(profile, run.StepTokens()),
	}, nil
}

// Close frees the engine's workers.
func (n *native) Close() { n.engine.Close() }

// begin trains the step before it returns.
func (n *native) begin(t *task) <-chan outcome {
	done := make(chan outcome, 1)
	done <- n.train(t)
	return done
}

// train makes a step. It is judged before anything is applied; one that is not applied
// leaves weights, moments and bias correction alone.
func (n *native) train(t *task) outcome {
	batch, err := n.backward(t)
	if err != nil {
		return outcome{err: err}
	}
	if n.spoil != nil {
		n.spoil(t.samples, n.engine.Grads())
	}
	n.engine.ScaleGrads(1 / (float32(batch.Tokens) * n.scaling.factor()))
	o := outcome{loss: batch.Loss(), norm: n.adam.Norm(n.engine.Grads()), rate: t.rate, tokens: t.tokens, experts: batch.ExpertTokens}
	if n.engine.Overflowed() {
		o.norm = math.Inf(1) // of gradients that a chip without infinity has cut
	}
	if n.scaling.tooLarge(o) {
		n.scaling.after(true)
		o.again = true
		return o
	}
	o.decision = t.judge(o.loss, o.norm)
	n.scaling.after(!o.decision.Finite)
	switch o.decision.Verdict {
	case spike.HalfRate:
		o.rate /= 2
	case spike.Withhold, spike.Skip:
		return o
	}
	o.applied = n.adam.Apply(n.engine.Params(), n.engine.Grads(), o.norm, o.rate)
	n.engine.UpdateState()
	return o
}

// backward accumulates the gradient of the summed token loss over the step's
// micro-batches.
func (n *native) backward(t *task) (engine.BatchStats, error) {
	seq := n.run.Train.SequenceTokens
	n.engine.ZeroGrads()
	n.engine.SetLossFactor(n.scaling.factor())
	sum := engine.BatchStats{ExpertTokens: make([]int64, n.run.Model.Layers*n.run.Model.Experts)}
	for first := 0; first < len(t.samples); first += n.run.Train.BatchSequences {
		rows := min(n.run.Train.BatchSequences, len(t.samples)-first)
		n.tokens = grow(n.tokens, rows*(seq+1))
		for r := range rows {
			if err := n.data.Train.Sample(n.order, t.samples[first+r], seq, n.tokens[r*(seq+1):(r+1)*(seq+1)]); err != nil {
				return sum, err
			}
		}
		b, err := n.engine.Backward(engine.Batch{
			Tokens: n.tokens, Rows: rows,
			Boundaries: n.run.Train.DocumentBoundaries, EndToken: corpus.EndOfDocument,
			Warmup: &engine.RoutingWarmup{Tokens: t.clock, Seed: n.run.Seed, Samples: t.samples[first : first+rows]},
		})
		if err != nil {
			return sum, err
		}
		sum.Add(b)
	}
	return sum, nil
}

func grow(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

func (n *native) rest(string) {}

func (n *native) end(context.Context, string) error { return nil }

func (n *native) gather(f *exchange) bool {
	f.Gather(f.flight.sent, n.engine.Params())
	return true
}

func (n *native) offer(*exchange) {}

func (n *native) adopt(f *exchange) {
	now := n.own(f)
	outer.Rebase(now, f.flight.verdict.value, f.flight.sent)
	f.Scatter(n.engine.Params(), now)
}

func (n *native) install(f *exchange, value []float32) { f.Scatter(n.engine.Params(), value) }

func (n *native) forget() {
	m, v := n.adam.Moments()
	clear(m)
	clear(v)
	n.adam.SetSteps(0)
}

func (n *native) look(f *exchange) (broken, apart bool) {
	own := n.own(f)
	return !outer.Finite(own), !slices.Equal(own, f.anchor)
}

// own is a copy of the fragment as it is, valid until the next call.
func (n *native) own(f *exchange) []float32 {
	own := n.reserve.scratch(f.Size)
	f.Gather(own, n.engine.Params())
	return own
}

// vectors are weights and moments by slot, flat in model order.
func (n *native) vectors() [3][]float32 {
	m, v := n.adam.Moments()
	return [3][]float32{n.engine.Params(), m, v}
}

// save copies weights, moments and the numeric profile's state.
func (n *native) save(c *capture, done func(error)) {
	for i, flat := range n.vectors() {
		if !outer.Finite(flat) {
			done(fmt.Errorf("%s hold a value that is not finite", slotNames()[i]))
			return
		}
	}
	copies, release := n.reserve.copyAll(n.vectors())
	c.release = release
	for i, flat := range copies {
		c.tensors = append(c.tensors, slotTensors(slotNames()[i], n.run.Table(), flat)...)
	}
	c.tensors = append(c.tensors, n.numericTensors()...)
	c.counters.AdamSteps, c.counters.LossScale, c.counters.GoodSteps = n.adam.Steps(), n.scaling.scale.Value, n.scaling.scale.Good
	done(nil)
}

// restore takes over what save has saved, or what a trainer of another kind has.
func (n *native) restore(s *savedState, done func(*wire.Restored, error)) {
	done(n.takeOver(s))
}

func (n *native) takeOver(s *savedState) (*wire.Restored, error) {
	m, v := n.adam.Moments()
	for slot, flat := range map[string][]float32{firstSlot: m, secondSlot: v} {
		if !s.file.has(slot) {
			continue // they are zero, as a joiner's
		}
		if err := s.file.read(slot, n.run.Table(), flat); err != nil {
			return nil, err
		}
	}
	n.adam.SetSteps(s.file.adamSteps())
	if s.momentsOnly {
		return s.report(n.run.Table(), map[string][]float32{firstSlot: m, secondSlot: v})
	}
	copy(n.engine.Params(), s.weights)
	if err := n.restoreNumeric(s.file); err != nil {
		return nil, err
	}
	if err := n.scaling.restore(s.file); err != nil {
		return nil, err
	}
	return s.report(n.run.Table(), map[string][]float32{weightsSlot: n.engine.Params(), firstSlot: m, secondSlot: v})
}

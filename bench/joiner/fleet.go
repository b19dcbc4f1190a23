package main

import (
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/runfile"
)

// periodSteps is the exchange's default period in steps of an island.
const periodSteps = 6

// fleet is a run in lockstep: all learners make a step, fragments that are due are
// merged, and what was merged is adopted behind the next step.
type fleet struct {
	run       runfile.Run
	engine    *engine.Engine
	schedule  engine.Schedule
	order     corpus.Order
	fragments []fragment.Fragment
	outer     outer.Step
	theta     [][]float32 // by fragment
	momentum  [][]float32
	learners  []*learner
	waiting   []int  // fragments that are merged and not adopted
	sample    uint64 // next one
	steps     int    // of the fleet
	tokens    int64
}

// newFleet has islands learners at the first weights. The shared engine e holds any.
func newFleet(r runfile.Run, e *engine.Engine, order corpus.Order, islands, threads int) *fleet {
	cfg := r.Model.Config
	f := &fleet{
		run: r, engine: e, schedule: island.ScheduleOf(r), order: order, fragments: fragment.Split(r.Table(), r.Exchange.Fragments),
		outer: outer.Step{Rate: *r.Exchange.OuterRate, Momentum: *r.Exchange.OuterMomentum},
	}
	first := make([]float32, cfg.Size())
	engine.InitParams(cfg, r.Seed, first)
	for _, fr := range f.fragments {
		part := make([]float32, fr.Size)
		fr.Gather(part, first)
		f.theta = append(f.theta, part)
		f.momentum = append(f.momentum, make([]float32, fr.Size))
	}
	for range islands {
		f.learners = append(f.learners, newLearner(r, f, first, threads))
	}
	return f
}

// clone goes on by itself from here; it shares the engine.
func (f *fleet) clone(threads int) *fleet {
	c := *f
	c.theta, c.momentum, c.learners = nil, nil, nil
	for p := range f.theta {
		c.theta = append(c.theta, slices.Clone(f.theta[p]))
		c.momentum = append(c.momentum, slices.Clone(f.momentum[p]))
	}
	for _, l := range f.learners {
		c.learners = append(c.learners, l.clone(f.run, f, threads))
	}
	c.waiting = slices.Clone(f.waiting)
	return &c
}

// weights are the fleet's, as a joiner gets them.
func (f *fleet) weights() []float32 {
	flat := make([]float32, f.run.Model.Config.Size())
	for p, fr := range f.fragments {
		fr.Scatter(flat, f.theta[p])
	}
	return flat
}

// advance makes one step of every learner and what follows from it.
func (f *fleet) advance(text *corpus.Set) error {
	count := int(f.run.StepSamples())
	for _, l := range f.learners {
		samples := make([]uint64, count)
		for i := range samples {
			samples[i] = f.sample
			f.sample++
		}
		if err := l.step(f, text, samples, f.tokens+f.run.StepTokens()); err != nil {
			return err
		}
	}
	f.steps++
	f.tokens += int64(len(f.learners)) * f.run.StepTokens()
	for _, p := range f.waiting {
		for _, l := range f.learners {
			if l.sent[p] != nil { // one that joined since has nothing under way
				l.adopt(f, p, f.theta[p])
			}
		}
	}
	f.waiting = f.waiting[:0]
	for p := range f.fragments {
		if f.steps%periodSteps == p*periodSteps/len(f.fragments) {
			f.merge(p)
			f.waiting = append(f.waiting, p)
		}
	}
	return nil
}

// merge takes fragment p of all learners; everybody speaks, so the share is 1.
func (f *fleet) merge(p int) {
	fr := f.fragments[p]
	var parts []outer.Part
	for _, l := range f.learners {
		parts = append(parts, l.send(f, p))
	}
	delta := make([]float32, fr.Size)
	outer.Mean(delta, fr.Sizes, parts)
	at := 0
	for i, t := range fr.Tensors {
		step := f.outer
		if t.Kind == model.State {
			step = outer.StateStep()
		}
		to := at + fr.Sizes[i]
		step.Apply(f.theta[p][at:to], f.momentum[p][at:to], delta[at:to], 1)
		at = to
	}
}

// tensorTokens is what reached each tensor of fragment p since l sent it last.
func (f *fleet) tensorTokens(p int, l *learner) []int64 {
	fr := f.fragments[p]
	out := make([]int64, len(fr.Tensors))
	for i, t := range fr.Tensors {
		out[i] = l.tokens[p]
		if t.Kind == model.Expert {
			at := t.Layer*f.run.Model.Experts + t.Expert
			out[i] = l.routed[at] - l.counted[p][at]
		}
	}
	return out
}

const evalRows = 8

// evaluate is the validation loss of the fleet's weights, nats.
func (f *fleet) evaluate(text *corpus.Set, sequences int) (float64, error) {
	copy(f.engine.Params(), f.weights())
	seq := f.run.Train.SequenceTokens
	windows := text.Valid.Windows(seq)
	count := min(int64(sequences), windows)
	var sum float64
	var tokens int
	for first := int64(0); first < count; first += evalRows {
		rows := int(min(evalRows, count-first))
		batch := make([]int32, rows*(seq+1))
		for r := range rows {
			if err := text.Valid.Window((first+int64(r))*windows/count, batch[r*(seq+1):(r+1)*(seq+1)]); err != nil {
				return math.NaN(), err
			}
		}
		s, n, err := f.engine.Loss(engine.Batch{
			Tokens: batch, Rows: rows, Boundaries: f.run.Train.DocumentBoundaries, EndToken: corpus.EndOfDocument,
		})
		if err != nil {
			return math.NaN(), err
		}
		sum, tokens = sum+s, tokens+n
	}
	return sum / float64(tokens), nil
}

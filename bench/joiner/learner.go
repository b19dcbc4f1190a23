package main

import (
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
)

// moments are what an optimizer knows beside the weights.
type moments struct {
	first, second []float32
	steps         uint64
}

// learner is one island. Learners of a fleet share the engine, one after the other.
type learner struct {
	adam    *engine.AdamW
	params  []float32
	anchor  [][]float32 // by fragment
	sent    [][]float32 // of the contribution under way, by fragment; nil: none
	routed  []int64     // tokens by layer and expert, all of them
	counted [][]int64   // routed at the last send, by fragment
	tokens  []int64     // trained since the last send, by fragment
	rule    *spike.Rule
	joined  int // steps since it joined; -1: its rate does not rise
	held    int // steps that the spike rule held back
	losses  []float64
}

func newLearner(r runfile.Run, f *fleet, theta []float32, threads int) *learner {
	t := r.Train
	cfg := r.Model.Config
	l := &learner{
		adam: engine.NewAdamW(cfg, engine.AdamWConfig{
			Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay, ClipNorm: t.ClipNorm,
		}, threads),
		params: slices.Clone(theta), routed: make([]int64, cfg.Layers*cfg.Experts),
		tokens: make([]int64, len(f.fragments)), rule: spike.New(r.SpikeRule()), joined: -1,
	}
	for _, fr := range f.fragments {
		part := make([]float32, fr.Size)
		fr.Gather(part, theta)
		l.anchor = append(l.anchor, part)
		l.sent = append(l.sent, nil)
		l.counted = append(l.counted, slices.Clone(l.routed))
	}
	return l
}

// clone is a learner that goes on by itself from here.
func (l *learner) clone(r runfile.Run, f *fleet, threads int) *learner {
	c := newLearner(r, f, l.params, threads)
	c.give(l.moments())
	for p := range l.anchor {
		copy(c.anchor[p], l.anchor[p])
		c.sent[p] = slices.Clone(l.sent[p])
		copy(c.counted[p], l.counted[p])
	}
	copy(c.routed, l.routed)
	copy(c.tokens, l.tokens)
	c.rule.Restore(l.rule.Losses())
	c.held = l.held
	return c
}

func (l *learner) moments() moments {
	m, v := l.adam.Moments()
	return moments{slices.Clone(m), slices.Clone(v), l.adam.Steps()}
}

func (l *learner) give(from moments) {
	m, v := l.adam.Moments()
	copy(m, from.first)
	copy(v, from.second)
	l.adam.SetSteps(from.steps)
}

// step trains the samples; clock is the fleet's tokens behind it.
func (l *learner) step(f *fleet, text *corpus.Set, samples []uint64, clock int64) error {
	e, seq := f.engine, f.run.Train.SequenceTokens
	copy(e.Params(), l.params)
	e.ZeroGrads()
	e.SetLossFactor(1)
	tokens := make([]int32, len(samples)*(seq+1))
	for i, n := range samples {
		if err := text.Train.Sample(f.order, n, seq, tokens[i*(seq+1):(i+1)*(seq+1)]); err != nil {
			return err
		}
	}
	b, err := e.Backward(engine.Batch{
		Tokens: tokens, Rows: len(samples), Boundaries: f.run.Train.DocumentBoundaries, EndToken: corpus.EndOfDocument,
		Warmup: &engine.RoutingWarmup{Tokens: clock, Seed: f.run.Seed, Samples: samples},
	})
	if err != nil {
		return err
	}
	e.ScaleGrads(1 / float32(b.Tokens))
	norm := l.adam.Norm(e.Grads())
	d := l.rule.Judge(b.Loss(), norm, false)
	l.rule.Add(b.Loss())
	l.losses = append(l.losses, b.Loss())
	if d.Verdict == spike.Withhold || d.Verdict == spike.Skip {
		l.held++
		return nil
	}
	rate := f.schedule.Rate(clock) * l.factor(f.run.Train.Beta2)
	if !l.adam.Apply(e.Params(), e.Grads(), norm, rate) {
		return fmt.Errorf("a step of norm %v was not applied", norm)
	}
	e.UpdateState()
	copy(l.params, e.Params())
	if l.joined >= 0 {
		l.joined++
	}
	for i, n := range b.ExpertTokens {
		l.routed[i] += n
	}
	for p := range l.tokens {
		l.tokens[p] += int64(len(samples) * seq)
	}
	return nil
}

// factor raises a joiner's rate over 1/(1-β₂) steps.
func (l *learner) factor(beta2 float64) float64 {
	if l.joined < 0 {
		return 1
	}
	return min(1, float64(l.joined+1)*(1-beta2))
}

// send makes the contribution of fragment p.
func (l *learner) send(f *fleet, p int) outer.Part {
	fr := f.fragments[p]
	sent, delta := make([]float32, fr.Size), make([]float32, fr.Size)
	fr.Gather(sent, l.params)
	outer.PseudoGradient(delta, l.anchor[p], sent)
	outer.Sent(sent, l.anchor[p], delta)
	l.sent[p] = sent
	part := outer.Part{Delta: delta, Tokens: f.tensorTokens(p, l)}
	l.tokens[p] = 0
	copy(l.counted[p], l.routed)
	return part
}

// adopt takes over the merged value of fragment p.
func (l *learner) adopt(f *fleet, p int, merged []float32) {
	fr := f.fragments[p]
	now := make([]float32, fr.Size)
	fr.Gather(now, l.params)
	outer.Rebase(now, merged, l.sent[p])
	fr.Scatter(l.params, now)
	copy(l.anchor[p], merged)
	l.sent[p] = nil
}

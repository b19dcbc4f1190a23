package main

import (
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// The search that Calculon's README shows: Turing-NLG 530B (models/turing-530B.json),
// A100 with 80 GB (systems/a100_80g.json), batches of at most 2520; of 5,120 chips it goes
// through 1,064,000 configurations (calculon/llm/optimal_execution.py, commit of 2024-02-22).
const (
	chips    = 5120
	maxBatch = 2520
	fastNet  = 8 // chips that the fast network joins
)

func turing() (anatomy.Decoder, error) {
	return anatomy.Shape{Name: "gpt-turing-530b", Layers: 105, Hidden: 20480, Heads: 128, FFN: 81920, Vocab: 51200, Positions: 2048}.Decoder()
}

// execution is a configuration of Calculon's.
type execution struct {
	plan.Layout
	batch            int
	redo             bool // the gather of sequence parallelism is done again in the backward pass
	tensorOverlap    int  // none, ring, pipe
	scattered        bool // stages send a share of 1/tp, and gather it
	weights, acts    bool // kept in host memory
	states           bool // of the optimizer, likewise
	tnet, pnet, dnet int  // 0 the fast network, 1 the slow one
}

// executions goes through all of them in Calculon's order.
func executions(d anatomy.Decoder, visit func(execution)) {
	for tp := 1; tp <= chips; tp++ {
		if chips%tp != 0 || d.Hidden%tp != 0 || d.Layers[0].Attention.Heads%tp != 0 {
			continue
		}
		most := min(chips/tp, d.Depth())
		for pp := 1; pp <= most; pp++ {
			if most%pp != 0 || chips%(tp*pp) != 0 || d.Depth()%pp != 0 {
				continue
			}
			dp := chips / (tp * pp)
			if dp > maxBatch {
				continue
			}
			for vpp := 1; vpp == 1 || pp > 1 && vpp <= d.Depth()/pp; vpp++ {
				if d.Depth()/pp%vpp == 0 {
					e := execution{Layout: plan.Layout{Layout: anatomy.Layout{TP: tp, PP: pp, EP: 1, ETP: 1}, DP: dp, CP: 1, VPP: vpp}, batch: maxBatch / dp * dp}
					e.modes(visit)
				}
			}
		}
	}
}

func either(both bool) []bool {
	if both {
		return []bool{true, false}
	}
	return []bool{false}
}

// modes goes through recomputation, sharding, and kinds of tensor-parallel traffic.
func (e execution) modes(visit func(execution)) {
	for _, e.Recompute = range []anatomy.Recompute{anatomy.FullLayers, anatomy.Selective, anatomy.NoRecompute} {
		for _, sharded := range either(e.DP > 1) {
			e.ZeRO = 0
			if sharded {
				e.ZeRO = 1
			}
			for kind := range 3 {
				e.Whole, e.scattered = kind < 2, kind > 0
				sequence := kind == 2
				for _, e.redo = range either(sequence && e.Recompute != anatomy.FullLayers) {
					e.overlaps(visit)
				}
			}
		}
	}
}

// overlaps goes through overlap and what is kept in host memory.
func (e execution) overlaps(visit func(execution)) {
	for _, overlap := range either(e.DP > 1) {
		e.Exposed = !overlap
		for e.tensorOverlap = 0; e.tensorOverlap == 0 || e.TP > 1 && e.tensorOverlap < 3; e.tensorOverlap++ {
			for _, e.weights = range either(true) {
				for _, e.acts = range either(e.Recompute != anatomy.FullLayers) {
					for _, e.states = range either(true) {
						e.sizes(visit)
					}
				}
			}
		}
	}
}

// sizes goes through micro-batches and networks.
func (e execution) sizes(visit func(execution)) {
	for e.MicroBatch = 1; e.MicroBatch <= e.batch/e.DP; e.MicroBatch++ {
		if e.batch/e.DP%e.MicroBatch != 0 || e.MicroBatch*2048%e.TP != 0 {
			continue
		}
		for e.tnet = 0; e.tnet == 0 || e.TP > 1 && e.tnet < 2; e.tnet++ {
			for e.pnet = 0; e.pnet == 0 || e.PP > 1 && e.pnet < 2; e.pnet++ {
				for e.dnet = 0; e.dnet == 0 || e.DP > 1 && e.dnet < 2; e.dnet++ {
					visit(e)
				}
			}
		}
	}
}

// predictor has the models of the chip with its fast links as far as they are used, by
// batch.
type predictor struct {
	chip   plan.Hardware
	models map[[2]int]*plan.Model // by links used and batch
}

func newPredictor(d anatomy.Decoder) (*predictor, error) {
	c, err := chip.Builtin().Find("a100-80g-sxm")
	if err != nil {
		return nil, err
	}
	h, err := plan.HardwareOf(c)
	if err != nil {
		return nil, err
	}
	p := &predictor{chip: h, models: map[[2]int]*plan.Model{}}
	var degrees, batches []int
	executions(d, func(e execution) { degrees, batches = append(degrees, e.TP), append(batches, e.batch) })
	slices.Sort(degrees)
	slices.Sort(batches)
	for group := 1; group <= fastNet; group *= 2 {
		h.Group = group
		m, err := plan.PrepareFor(plan.Task{Model: d, Sequence: 2048, Format: "fp16"}, h, plan.BuiltinConstants(), slices.Compact(degrees)...)
		if err != nil {
			return nil, err
		}
		for _, batch := range slices.Compact(batches) {
			p.models[[2]int{group, batch}] = m.For(batch)
		}
	}
	return p, nil
}

// group is how far the fast links are used.
func (e execution) group() int {
	switch {
	case e.tnet == 1:
		return 1
	case e.dnet == 1:
		return min(fastNet, e.TP)
	}
	return fastNet
}

// fits says that the networks reach.
func (e execution) fits() bool {
	return !(e.tnet == 0 && e.TP > fastNet || e.pnet == 0 && e.TP*e.PP > fastNet && e.PP > 1 || e.dnet == 0 && e.TP*e.PP*e.DP > fastNet && e.DP > 1)
}

// rate predicts sequences a second, 0 where memory or networks do not suffice. What is
// kept in host memory goes over the chip's host link and back once for each micro-batch,
// what the optimizer keeps once a step, beside no work.
func (p *predictor) rate(e *execution) float64 {
	s := p.models[[2]int{e.group(), e.batch}].Step(e.Layout)
	bytes, moved := s.Bytes(), 0.0
	micros := float64(e.batch / (e.DP * e.MicroBatch))
	away := func(part plan.Part, times float64) {
		bytes -= s.Memory[part]
		moved += 2 * times * s.Memory[part]
	}
	if e.weights {
		away(plan.Weights, micros)
	}
	if e.acts {
		away(plan.Activations, micros/math.Min(micros, float64(e.PP)))
	}
	if e.states {
		away(plan.Masters, 1)
		away(plan.Moments, 1)
	}
	if bytes > p.chip.Memory || !e.fits() {
		return 0
	}
	return float64(e.batch) / (s.Seconds + moved/p.chip.Host)
}

// distinct is a configuration as far as the cost model tells it from others.
type distinct struct {
	tp, pp, dp, vpp, micro, zero, group int
	recompute                           anatomy.Recompute
	whole, exposed                      bool
	weights, acts, states, fits         bool
}

func (e execution) different() distinct {
	return distinct{e.TP, e.PP, e.DP, e.VPP, e.MicroBatch, e.ZeRO, e.group(), e.Recompute, e.Whole, e.Exposed, e.weights, e.acts, e.states, e.fits()}
}

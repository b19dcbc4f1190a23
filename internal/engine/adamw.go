package engine

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// AdamWConfig are the settings of the optimiser.
type AdamWConfig struct {
	Beta1       float64 // decay of the first moment, in [0, 1); usually 0.9
	Beta2       float64 // decay of the second moment, in [0, 1); Ling: 0.95
	Eps         float64 // added to the root of the second moment; usually 1e-8
	WeightDecay float64 // per step, times the rate; Ling: 0.1; 0: none
	ClipNorm    float64 // gradients are scaled down to this global norm; Ling: 1; 0: never
}

// Validate gives nil or a *fault.Input that names the first bad field as it is
// spelled in a run file.
func (c AdamWConfig) Validate() error {
	for _, f := range []struct {
		name  string
		value float64
		ok    bool
		next  string
	}{
		{"beta1", c.Beta1, c.Beta1 >= 0 && c.Beta1 < 1, "use 0 to below 1, usually 0.9"},
		{"beta2", c.Beta2, c.Beta2 >= 0 && c.Beta2 < 1, "use 0 to below 1, usually 0.95"},
		{"eps", c.Eps, c.Eps > 0 && c.Eps < 1, "use a small number above 0, usually 1e-8"},
		{"weight_decay", c.WeightDecay, c.WeightDecay >= 0 && c.WeightDecay < 100, "use a number of at least 0, usually 0.1"},
		{"clip_norm", c.ClipNorm, c.ClipNorm >= 0 && !math.IsInf(c.ClipNorm, 0), "use a number of at least 0, usually 1"},
	} {
		if !f.ok {
			return &fault.Input{Where: f.name, Value: fmt.Sprint(f.value), Problem: "is out of range", Next: f.next}
		}
	}
	return nil
}

// adamBlock is the number of elements of one unit of work; a constant, because
// the gradient norm is summed in the order of the units.
const adamBlock = 1 << 14

// AdamW is the optimiser (Loshchilov and Hutter, arXiv 1711.05101, decay times
// rate): fp32 master weights, which are the engine's parameters, and fp32
// moments. Only tensors with Decay set are decayed. Its methods must not be
// called concurrently.
type AdamW struct {
	cfg     AdamWConfig
	kernel  *kernel.Set
	threads int
	m, v    []float32
	steps   uint64
	units   []adamUnit

	// The step in progress.
	params, grads  []float32
	plain, decayed kernel.AdamWStep
	task           func(unit int)
	next           atomic.Int64
	done           sync.WaitGroup
	helper         func()
	sum, apply     func(unit int)
}

// adamUnit is a run of elements of one tensor.
type adamUnit struct {
	from, to int
	decay    bool
	squares  float64 // sum of its squared gradients
}

// StepStats is what one step did.
type StepStats struct {
	GradNorm float64 // of the gradients as given, before clipping; may be NaN or +Inf
	Applied  bool    // false: the norm was not finite and nothing was changed
}

// NewAdamW gives an optimiser with zero moments on the fastest kernel set. It
// panics when threads is below 1.
func NewAdamW(cfg model.Config, c AdamWConfig, threads int) *AdamW {
	set, err := kernel.New("")
	if err != nil {
		panic(fmt.Sprintf("engine: the fastest kernel set is missing: %v", err))
	}
	return NewAdamWOn(set, cfg, c, threads)
}

// NewAdamWOn is NewAdamW on a given kernel set.
func NewAdamWOn(set *kernel.Set, cfg model.Config, c AdamWConfig, threads int) *AdamW {
	if threads < 1 {
		panic(fmt.Sprintf("engine: AdamW with %d threads", threads))
	}
	a := &AdamW{
		cfg: c, kernel: set, threads: threads,
		m: make([]float32, cfg.Size()), v: make([]float32, cfg.Size()),
	}
	for _, t := range cfg.Tensors() {
		for at, end := t.Offset, t.Offset+t.Size(); at < end; at += adamBlock {
			a.units = append(a.units, adamUnit{from: at, to: min(at+adamBlock, end), decay: t.Decay})
		}
	}
	a.helper, a.sum, a.apply = a.help, a.sumUnit, a.applyUnit
	return a
}

// Moments are the first and second moments in model order. The slices are the
// optimiser's own: writing to them restores a saved state.
func (a *AdamW) Moments() (m, v []float32) { return a.m, a.v }

// Steps is the number of steps applied, which bias correction depends on.
func (a *AdamW) Steps() uint64 { return a.steps }

// SetSteps restores the number of steps applied.
func (a *AdamW) SetSteps(n uint64) { a.steps = n }

// Step updates params from grads, both in model order, at the given rate:
// gradients are scaled by min(1, ClipNorm/(norm + 1e-6)) and otherwise left as
// they are. When the norm is not finite nothing changes at all.
func (a *AdamW) Step(params, grads []float32, rate float64) StepStats {
	norm := a.Norm(grads)
	return StepStats{GradNorm: norm, Applied: a.Apply(params, grads, norm, rate)}
}

// Norm is the global norm of gradients in model order; it may be NaN or +Inf.
func (a *AdamW) Norm(grads []float32) float64 {
	a.grads = grads
	a.run(a.sum)
	squares := 0.0
	for i := range a.units {
		squares += a.units[i].squares
	}
	return math.Sqrt(squares)
}

// Apply is Step with gradients whose norm is known, for a caller that decides by the
// norm. It reports whether anything changed.
func (a *AdamW) Apply(params, grads []float32, norm, rate float64) bool {
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return false
	}
	a.params, a.grads = params, grads
	a.steps++
	scale := 1.0
	if a.cfg.ClipNorm > 0 {
		scale = min(1, a.cfg.ClipNorm/(norm+1e-6))
	}
	c := a.cfg
	a.plain = kernel.NewAdamWStep(c.Beta1, c.Beta2, c.Eps, 0, rate, scale, a.steps)
	a.decayed = kernel.NewAdamWStep(c.Beta1, c.Beta2, c.Eps, c.WeightDecay, rate, scale, a.steps)
	a.run(a.apply)
	return true
}

func (a *AdamW) sumUnit(unit int) {
	u := &a.units[unit]
	u.squares = a.kernel.SumSquares(a.grads[u.from:u.to])
}

func (a *AdamW) applyUnit(unit int) {
	u, c := &a.units[unit], a.plain
	if u.decay {
		c = a.decayed
	}
	a.kernel.AdamW(a.params[u.from:u.to], a.grads[u.from:u.to], a.m[u.from:u.to], a.v[u.from:u.to], c)
}

// run works off all units. The helpers live as long as the call, so that an
// optimiser needs no Close.
func (a *AdamW) run(task func(unit int)) {
	a.task = task
	a.next.Store(0)
	a.done.Add(a.threads - 1)
	for range a.threads - 1 {
		go a.helper()
	}
	a.work()
	a.done.Wait()
}

func (a *AdamW) help() {
	defer a.done.Done()
	a.work()
}

func (a *AdamW) work() {
	for {
		unit := int(a.next.Add(1)) - 1
		if unit >= len(a.units) {
			return
		}
		a.task(unit)
	}
}

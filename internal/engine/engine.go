package engine

import (
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// Options are what an engine may be told besides its model.
type Options struct {
	// Threads is the number of workers, at least 1. It has no effect on results.
	Threads int
	// Kernel is the kernel set; nil means the fastest one this CPU has.
	Kernel *kernel.Set
	// Clock gives the time since some moment, to measure what Spent tells; nil: nothing
	// is measured.
	Clock func() time.Duration
	// Numeric is the arithmetic to emulate; nil means fp32 as it is.
	Numeric *numeric.Profile
}

// MaxThreads keeps a mistyped number from starting a million goroutines.
const MaxThreads = 1024

// Engine holds the parameters of one model, their gradients and the memory of a
// training step. Its methods must not be called concurrently.
type Engine struct {
	cfg    model.Config
	kernel *kernel.Set
	pool   *pool

	params, grads []float32
	w, g          modelWeights // views of params and grads
	layers        []*layer

	shape    shape // the pass that the buffers below are cut for
	capacity shape // the pass they were allocated for
	passBuffers
	batchParts
	chosen [][]int32 // [layers][N*K] experts of the whole batch

	alpha     float64 // of the routing warm-up; 1: the routers see no noise
	noiseSeed uint64

	sums []float64
	rope rope

	jobs  []job // gradient work that waits for the next phase
	phase phase

	queueing Part // what the jobs that are being queued belong to
	tasks    engineTasks

	profile    *numeric.Profile
	rules      [numeric.Operators]rule
	delayed    *delayed // scales per tensor; nil: the profile has none
	training   bool     // the pass is one of Backward
	lossFactor float32  // gradients are of the losses times it

	gradScale    float32 // argument of the scale task
	expertTokens []int64
	step         []layerStep // [layers] since ZeroGrads
}

// engineTasks are the engine's phases as function values, made once so that no
// step allocates closures.
type engineTasks struct {
	phase, lossForward, lossBackward, embedBackward, zero, scale func(w *worker, item int)
}

// New gives an engine with all parameters zero. It fails with a *fault.Input for
// an invalid configuration or number of threads. The caller must Close it.
func New(cfg model.Config, o Options) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Threads < 1 || o.Threads > MaxThreads {
		return nil, &fault.Input{Where: "threads", Value: fmt.Sprint(o.Threads), Problem: "is out of range",
			Next: fmt.Sprintf("use 1 to %d", MaxThreads)}
	}
	if o.Kernel == nil {
		set, err := kernel.New("")
		if err != nil {
			return nil, fmt.Errorf("choose a kernel set: %w", err)
		}
		o.Kernel = set
	}
	e := &Engine{
		cfg: cfg, kernel: o.Kernel, pool: newPool(o.Threads),
		params: make([]float32, cfg.Size()), grads: make([]float32, cfg.Size()),
		sums:         make([]float64, max(cfg.Experts, cfg.Dim)),
		expertTokens: make([]int64, cfg.Layers*cfg.Experts),
		chosen:       make([][]int32, cfg.Layers),
		alpha:        1,
	}
	for range cfg.Layers {
		e.step = append(e.step, layerStep{counts: make([]int64, cfg.Experts)})
	}
	for _, w := range e.pool.workers {
		w.watch.clock = o.Clock
	}
	e.emulate(o.Numeric)
	e.w, e.g = viewWeights(cfg, e.params), viewWeights(cfg, e.grads)
	for i := range cfg.Layers {
		e.layers = append(e.layers, newLayer(e, i))
	}
	e.tasks = engineTasks{phase: e.phaseItem, lossForward: e.lossForward,
		lossBackward: e.lossBackward, embedBackward: e.embedBackward, zero: e.zeroItem, scale: e.scaleItem}
	return e, nil
}

// Close ends the engine's workers. The engine must not be used afterwards,
// except for Params and Grads.
func (e *Engine) Close() { e.pool.close() }

// Config is the model's configuration.
func (e *Engine) Config() model.Config { return e.cfg }

// KernelSet names the kernel set, which the bits of results depend on.
func (e *Engine) KernelSet() string { return e.kernel.Name() }

// Params are all parameters, flat, in model order. The slice is the engine's own:
// writing to it between calls changes the model.
func (e *Engine) Params() []float32 { return e.params }

// Grads are the gradients that Backward adds to, in the order of Params.
func (e *Engine) Grads() []float32 { return e.grads }

// ZeroGrads begins a step: it sets all gradients to zero and forgets what UpdateState goes by.
func (e *Engine) ZeroGrads() {
	e.run(blocksOf(len(e.grads), flatBlock), e.tasks.zero)
	for i := range e.step {
		e.step[i].clear()
	}
	e.beginNumericStep()
}

func (e *Engine) zeroItem(w *worker, item int) {
	w.watch.turn(Gradients)
	from, to := block(item, flatBlock, len(e.grads))
	clear(e.grads[from:to])
}

// ScaleGrads multiplies all gradients, by one over the tokens of all calls of
// Backward since ZeroGrads to make the gradient of a mean.
func (e *Engine) ScaleGrads(f float32) {
	e.gradScale = f
	e.run(blocksOf(len(e.grads), flatBlock), e.tasks.scale)
}

func (e *Engine) scaleItem(w *worker, item int) {
	w.watch.turn(Gradients)
	from, to := block(item, flatBlock, len(e.grads))
	e.kernel.Scale(e.grads[from:to], e.gradScale)
}

// reserve cuts the buffers for a pass, allocating only when it needs more
// memory than any pass before.
func (e *Engine) reserve(s shape) {
	e.shape = s
	if s.seq == e.capacity.seq && s.rows <= e.capacity.rows {
		return
	}
	e.capacity = s
	e.passBuffers = newPassBuffers(e.cfg, s)
	e.rope = newRope(e.cfg, s.seq)
	for _, l := range e.layers {
		l.acts = newActivations(e.cfg, l.index, s)
	}
	for _, w := range e.pool.workers {
		w.scratch = newScratch(e.cfg, s)
	}
}

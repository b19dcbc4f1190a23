package gauge

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// Options of Engine.
type Options struct {
	Model          model.Config
	Optimizer      engine.AdamWConfig
	BatchSequences int // sequences of one step, at least 1
	SequenceTokens int // tokens of a sequence, at least 1
	Threads        int // workers, at least 1
	Kernel         *kernel.Set
	Numeric        *numeric.Profile // arithmetic to emulate; nil: fp32
	Tokens         int64            // to train in all, rounded up to whole steps; 0: as Duration says
	Duration       time.Duration    // to train for, where Tokens is 0; at least one step is made
	Seed           uint64
	Progress       func(Progress) // called about once a second; nil: nobody listens
}

// Progress is how far a measurement is.
type Progress struct {
	Steps           int
	Tokens          int64
	TokensPerSecond float64
	Seconds         float64 // of steps so far
}

// warmSteps come before the first one that counts: they touch every page.
const warmSteps = 2

// productEvery is the pause between two measurements of the machine's product rate.
const productEvery = time.Second

// The machine's large product is one of 1024 x 512 x 1024, 8 MiB of matrices.
const (
	productM, productN, productK = 1024, 512, 1024
	productBytes                 = 4 * (productM*productN + productM*productK + productK*productN)
)

// Predict is the memory that a measurement takes.
func Predict(o Options) int64 {
	m := engine.MemoryOf(o.Model, o.BatchSequences, o.SequenceTokens, o.Threads)
	return machine.ProcessBytes(m.Total() + productBytes)
}

// Engine trains on random tokens and reports. It ends early with the error of ctx.
func Engine(ctx context.Context, o Options) (Report, error) {
	m, err := newMeter(o)
	if err != nil {
		return Report{}, err
	}
	defer m.close()
	for range warmSteps {
		if err := m.step(ctx); err != nil {
			return Report{}, err
		}
	}
	m.reset()
	for !m.done() {
		if err := m.step(ctx); err != nil {
			return Report{}, err
		}
		m.between()
	}
	return m.report(), nil
}

// meter is a measurement in progress.
type meter struct {
	o        Options
	engine   *engine.Engine
	adam     *engine.AdamW
	products *engine.Products
	a, b, c  []float32 // of the large product
	tokens   []int32
	stream   *rng.Stream
	began    time.Time

	steps            int
	total, optimizer time.Duration
	before           map[engine.Part]time.Duration // spent before the first step that counts
	spent            map[engine.Part]time.Duration
	rates            []float64 // of the large product, GFLOP/s
	productDue       time.Duration
	tell             time.Duration
}

func newMeter(o Options) (*meter, error) {
	m := &meter{o: o, began: time.Now(), stream: rng.New(o.Seed, rng.Test, 0),
		tokens: make([]int32, o.BatchSequences*(o.SequenceTokens+1)),
		a:      make([]float32, productM*productK), b: make([]float32, productK*productN), c: make([]float32, productM*productN)}
	var err error
	m.engine, err = engine.New(o.Model, engine.Options{Threads: o.Threads, Kernel: o.Kernel, Numeric: o.Numeric,
		Clock: func() time.Duration { return time.Since(m.began) }})
	if err != nil {
		return nil, err
	}
	m.adam = engine.NewAdamWOn(o.Kernel, o.Model, o.Optimizer, o.Threads)
	m.products = engine.NewProducts(o.Kernel, o.Threads)
	engine.InitParams(o.Model, o.Seed, m.engine.Params())
	for i := range m.a {
		m.a[i] = float32(i%17) / 17
	}
	for i := range m.b {
		m.b[i] = float32(i%13) / 13
	}
	return m, nil
}

func (m *meter) close() {
	m.engine.Close()
	m.products.Close()
}

// reset begins to count.
func (m *meter) reset() {
	m.steps, m.total, m.optimizer = 0, 0, 0
	m.before = m.engine.Spent()
	m.product()
}

// stepRate is the learning rate: small, so that the model stays near where it began.
const stepRate = 1e-4

// step is one training step on tokens drawn anew.
func (m *meter) step(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range m.tokens {
		m.tokens[i] = int32(m.stream.Uint32() % uint32(m.o.Model.Vocab))
	}
	began := time.Now()
	m.engine.ZeroGrads()
	b, err := m.engine.Backward(engine.Batch{Tokens: m.tokens, Rows: m.o.BatchSequences})
	if err != nil {
		return fmt.Errorf("step %d: %w", m.steps+1, err)
	}
	m.engine.ScaleGrads(1 / float32(b.Tokens))
	computed := time.Now()
	m.adam.Step(m.engine.Params(), m.engine.Grads(), stepRate)
	ended := time.Now()
	m.steps++
	m.total += ended.Sub(began)
	m.optimizer += ended.Sub(computed)
	return nil
}

// done says whether enough was measured.
func (m *meter) done() bool {
	if m.o.Tokens > 0 {
		return m.trained() >= m.o.Tokens
	}
	return m.steps > 0 && m.total >= m.o.Duration
}

func (m *meter) trained() int64 {
	return int64(m.steps) * int64(m.o.BatchSequences) * int64(m.o.SequenceTokens)
}

// between does what lies between steps and is not counted: the machine's product rate
// now and then, and word of how far it is.
func (m *meter) between() {
	if m.total >= m.productDue {
		m.product()
		m.productDue = m.total + productEvery
	}
	if m.o.Progress != nil && m.total >= m.tell {
		m.o.Progress(Progress{Steps: m.steps, Tokens: m.trained(), TokensPerSecond: float64(m.trained()) / m.total.Seconds(), Seconds: m.total.Seconds()})
		m.tell = m.total + time.Second
	}
}

// product measures one large product.
func (m *meter) product() {
	began := time.Now()
	m.products.NN(m.c, m.a, m.b, productM, productN, productK)
	m.rates = append(m.rates, 2*productM*productN*productK/time.Since(began).Seconds()/1e9)
}

func (m *meter) report() Report {
	o, count := m.o, m.o.Model.Count()
	m.spent = m.engine.Spent()
	for p, before := range m.before {
		m.spent[p] -= before
	}
	r := Report{
		Model: o.Model.Name, Params: count.Total, ActiveParams: count.Active,
		BatchSequences: o.BatchSequences, SequenceTokens: o.SequenceTokens, Threads: o.Threads,
		KernelSet: o.Kernel.Name(), Numeric: m.engine.Numeric(), Processor: machine.Processor(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Steps: m.steps, Seconds: m.total.Seconds(), TokensPerSecond: float64(m.trained()) / m.total.Seconds(),
		StepFLOPs:   stepFLOPs(o.Model, o.BatchSequences, o.SequenceTokens),
		SGEMMGFLOPS: Median(m.rates), PredictedBytes: Predict(o),
	}
	if peak := machine.PeakBytes(); peak > 0 {
		r.PeakBytes = &peak
	}
	r.GFLOPS = r.StepFLOPs * float64(r.Steps) / r.Seconds / 1e9
	r.ShareOfSGEMM = r.GFLOPS / r.SGEMMGFLOPS
	r.shareOut(m)
	return r
}

// Median is the middle of what was measured, which must not be empty.
func Median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

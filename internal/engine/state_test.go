package engine

import (
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/scalar"
)

// TestBiasEvensOutLoad skews a router, then lets the bias alone move: the busiest
// expert loses tokens until the load is near even (arXiv 2408.15664).
func TestBiasEvensOutLoad(t *testing.T) {
	cfg := named(t, "sigmoid, bias, scaled weights")
	cfg.BiasRate, cfg.Experts, cfg.TopK = 0.002, 6, 2
	e := newEngine(t, cfg, Options{Threads: 2})
	for _, l := range e.layers {
		clear(l.w.routerBias)
	}
	b := randomBatch(cfg, 40, 4, 40)
	load := func() float64 {
		e.ZeroGrads()
		s, err := e.Backward(b)
		if err != nil {
			t.Fatal(err)
		}
		e.UpdateState()
		first := s.ExpertTokens[:cfg.Experts]
		return float64(slices.Max(first)) * float64(cfg.Experts) / float64(b.Rows*40*cfg.TopK)
	}
	before, after := load(), 0.0
	for range 150 {
		after = load()
	}
	if before < 1.5 || after > 1.3 {
		t.Errorf("the busiest expert had %.2f times the mean at first and %.2f after 150 steps", before, after)
	}
}

// TestBiasStep pins one update: by the counts of all calls since ZeroGrads.
func TestBiasStep(t *testing.T) {
	cfg := named(t, "bias")
	e := newEngine(t, cfg, Options{Threads: 1})
	b := randomBatch(cfg, 41, 3, 20)
	e.ZeroGrads()
	splitBackward(t, e, b, 1)
	before := slices.Clone(e.layers[1].w.routerBias)
	counts := slices.Clone(e.step[1].counts)
	all := int64(3 * 20 * cfg.TopK)
	if counts[0]+counts[1]+counts[2] != all {
		t.Fatalf("the step counts %v", counts)
	}
	e.UpdateState()
	for i, n := range counts {
		want := before[i]
		switch mean := float64(all) / 3; {
		case float64(n) < mean:
			want += float32(cfg.BiasRate)
		case float64(n) > mean:
			want -= float32(cfg.BiasRate)
		}
		if got := e.layers[1].w.routerBias[i]; got != want {
			t.Errorf("expert %d has %d of %d choices: its bias went from %v to %v, want %v", i, n, all, before[i], got, want)
		}
	}
	e.ZeroGrads()
	after := slices.Clone(e.params)
	e.UpdateState()
	if at := sameBits(e.params, after); at >= 0 {
		t.Errorf("a step without tokens moved %s", tensorAt(cfg, at))
	}
}

// TestStatisticsOfLogits follows mean and variance over three steps against their
// definition, on the twin's logits.
func TestStatisticsOfLogits(t *testing.T) {
	cfg := named(t, "routing warm-up")
	e := newEngine(t, cfg, Options{Threads: 2})
	for _, l := range e.layers {
		clear(l.w.routerStats)
	}
	var mean, variance float64
	for step := range 3 {
		b := randomBatch(cfg, uint64(42+step), 2, 15)
		e.ZeroGrads()
		splitBackward(t, e, b, 1)
		logits := cleanLogits(e, b)
		stepMean, stepVariance := moments(logits)
		share := 1 / float64(cfg.RoutingWarmupWindow)
		if step == 0 {
			share = 1
		}
		mean += share * (stepMean - mean)
		variance += share * (stepVariance - variance)
		e.UpdateState()
		got := e.layers[0].w.routerStats
		if math.Abs(float64(got[0])-mean) > 1e-5 || math.Abs(float64(got[1])/variance-1) > 1e-5 {
			t.Errorf("after step %d mean and variance are %v, want %v and %v", step+1, got, mean, variance)
		}
	}
}

// cleanLogits are those of the first layer's router, whose input no noise reaches.
func cleanLogits(e *Engine, b Batch) []float64 {
	clean := b
	clean.Warmup = nil
	if _, _, err := e.Loss(clean); err != nil {
		panic(err)
	}
	return widen(e.layers[0].acts.routing.logits[:e.shape.tokens()*e.cfg.Experts])
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, variance
}

// TestWarmupBeforeItsFirstStep has no statistics yet: each sequence goes by its own,
// and the cut of a batch still changes nothing.
func TestWarmupBeforeItsFirstStep(t *testing.T) {
	cfg := named(t, "routing of every kind")
	e := newEngine(t, cfg, Options{Threads: 2})
	for _, l := range e.layers {
		clear(l.w.routerStats)
	}
	b := randomBatch(cfg, 45, 4, 21)
	checkAgainstTwin(t, e, b)
	want := slices.Clone(e.grads)
	e.ZeroGrads()
	splitBackward(t, e, b, 1)
	if i := sameBits(e.grads, want); i >= 0 {
		t.Errorf("gradient of %s differs", tensorAt(cfg, i))
	}
}

// TestWarmupFades: at its end the noise is gone to the bit; at its beginning there
// is nothing but noise, and no gradient reaches the router.
func TestWarmupFades(t *testing.T) {
	cfg := named(t, "routing warm-up")
	e := newEngine(t, cfg, Options{Threads: 1})
	b := randomBatch(cfg, 46, 2, 20)
	loss := func(w *RoutingWarmup) float64 {
		b.Warmup = w
		e.ZeroGrads()
		s, err := e.Backward(b)
		if err != nil {
			t.Fatal(err)
		}
		return s.LossSum
	}
	at := func(tokens int64, sample uint64) *RoutingWarmup {
		return &RoutingWarmup{Tokens: tokens, Seed: 17, Samples: []uint64{sample, sample + 1}}
	}
	if clean, done := loss(nil), loss(at(1000, 1)); clean != done {
		t.Errorf("after the warm-up the loss is %v, without one %v", done, clean)
	}
	if loss(at(500, 1)) == loss(at(500, 3)) {
		t.Error("other samples have the same noise")
	}
	loss(at(0, 1))
	for _, tensor := range cfg.Tensors() {
		if tensor.Name != "layers.0.router" {
			continue
		}
		g := widen(e.grads[tensor.Offset : tensor.Offset+tensor.Size()])
		if scalar.Dot(g, g) != 0 {
			t.Errorf("%s has a gradient under pure noise", tensor.Name)
		}
	}
	b.Warmup = &RoutingWarmup{Samples: []uint64{1}}
	if _, err := e.Backward(b); err == nil {
		t.Error("one sample number was taken for two sequences")
	}
}

package engine

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// TestTinyModelLearns trains on a text that repeats itself.
func TestTinyModelLearns(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, cfg, Options{Threads: 2})
	InitParams(cfg, 1, e.Params())
	a := NewAdamW(cfg, testAdamW(), 2)
	text := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog. ", 6))
	tokens := make([]int32, 4*65)
	var first, last float64
	for step := range 150 {
		for i := range tokens {
			tokens[i] = int32(text[(step*7+i)%len(text)])
		}
		e.ZeroGrads()
		stats, err := e.Backward(Batch{Tokens: tokens, Rows: 4})
		if err != nil {
			t.Fatal(err)
		}
		e.ScaleGrads(1 / float32(stats.Tokens))
		a.Step(e.Params(), e.Grads(), 3e-2)
		last = stats.LossSum / float64(stats.Tokens)
		if step == 0 {
			first = last
		}
	}
	if math.Abs(first-math.Log(256)) > 0.1 || !(last < 1) {
		t.Errorf("the loss went from %.3f to %.3f nats", first, last)
	}
}

// TestNaNIsNotHidden is rule S3's first half: what is not finite shows in loss and
// norm, wherever in the model it arises.
func TestNaNIsNotHidden(t *testing.T) {
	cfg := named(t, "everything")
	tokens := randomTokens(cfg, 70, 2, 20)
	for _, tensor := range cfg.Tensors() {
		if tensor.Kind == model.State {
			continue // a bias decides where tokens go and enters no result
		}
		e := newEngine(t, cfg, Options{Threads: 1})
		// One expert may go without tokens and an embedding without its token, so
		// poison every expert and every row.
		for _, other := range cfg.Tensors() {
			if other.Kind == tensor.Kind && other.Layer == tensor.Layer {
				for i := range other.Size() {
					e.params[other.Offset+i] = float32(math.NaN())
				}
			}
		}
		stats, err := e.Backward(Batch{Tokens: tokens, Rows: 2})
		if err != nil {
			t.Fatal(err)
		}
		norm := NewAdamW(cfg, testAdamW(), 1).Step(e.Params(), e.Grads(), 1e-3)
		if !math.IsNaN(stats.LossSum) || norm.Applied {
			t.Errorf("NaN in %s: loss %v, step %+v", tensor.Name, stats.LossSum, norm)
		}
	}
}

func TestBackwardRefuses(t *testing.T) {
	e := newEngine(t, named(t, "plain"), Options{Threads: 1})
	for _, c := range []struct {
		name   string
		tokens []int32
		rows   int
	}{
		{"no rows", []int32{1, 2}, 0},
		{"no tokens", nil, 1},
		{"indivisible", []int32{1, 2, 3}, 2},
		{"nothing to predict", []int32{1, 2}, 2},
		{"negative token", []int32{1, -1}, 1},
		{"token outside the vocabulary", []int32{7, 1}, 1},
	} {
		if _, err := e.Backward(Batch{Tokens: c.tokens, Rows: c.rows}); err == nil {
			t.Errorf("%s: Backward took it", c.name)
		}
		if _, _, err := e.Loss(Batch{Tokens: c.tokens, Rows: c.rows}); err == nil {
			t.Errorf("%s: Loss took it", c.name)
		}
	}
	for i, g := range e.Grads() {
		if g != 0 {
			t.Fatalf("a refused batch left gradient %v at %d", g, i)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := named(t, "plain")
	indivisible := good
	indivisible.Heads, indivisible.KVHeads = 3, 2
	for field, o := range map[string]struct {
		cfg     model.Config
		threads int
	}{
		"heads":   {indivisible, 1},
		"threads": {good, 0},
	} {
		var input *fault.Input
		if _, err := New(o.cfg, Options{Threads: o.threads}); !errors.As(err, &input) || input.Where != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestUniformRouterIsBalanced is case A8: B is 1.0 at perfect balance; the other
// convention, larger by the factor TopK, would read 2.0 here, so that its coefficient c
// is c·TopK in ours.
func TestUniformRouterIsBalanced(t *testing.T) {
	cfg := named(t, "plain")
	cfg.Experts = 8
	e := newEngine(t, cfg, Options{Threads: 1})
	for _, l := range e.layers {
		clear(l.w.router)
	}
	stats, err := e.Backward(Batch{Tokens: randomTokens(cfg, 71, 2, 16), Rows: 2})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(stats.BalanceLoss-1) > 1e-6 || math.Abs(stats.ZLoss-math.Pow(math.Log(8), 2)) > 1e-5 {
		t.Errorf("uniform scores give balance loss %v and z-loss %v", stats.BalanceLoss, stats.ZLoss)
	}
}

// TestStepDoesNotAllocate covers a whole step after the first.
func TestStepDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget")
	}
	for _, name := range []string{"everything", "routing of every kind"} {
		cfg := named(t, name)
		e := newEngine(t, cfg, Options{Threads: 2})
		a, b := NewAdamW(cfg, testAdamW(), 2), randomBatch(cfg, 72, 3, 30)
		step := func() {
			e.ZeroGrads()
			if _, err := e.Backward(b); err != nil {
				t.Fatal(err)
			}
			e.ScaleGrads(0.1)
			a.Step(e.Params(), e.Grads(), 1e-3)
			e.UpdateState()
		}
		step()
		if n := testing.AllocsPerRun(20, step); n >= 1 {
			t.Errorf("%s: a step allocates %v times", name, n)
		}
	}
}

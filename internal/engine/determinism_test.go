package engine

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
)

// sameBits gives the first index where two vectors differ in a bit, or -1.
func sameBits(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// tensorAt names the tensor that an element belongs to.
func tensorAt(cfg model.Config, i int) string {
	for _, t := range cfg.Tensors() {
		if i < t.Offset+t.Size() {
			return t.Name
		}
	}
	return "nothing"
}

func testAdamW() AdamWConfig {
	return AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, ClipNorm: 1}
}

// train makes steps of 3 sequences each and gives their losses.
func train(t testing.TB, e *Engine, a *AdamW, first, steps, seq int) (losses []float64) {
	t.Helper()
	for step := first; step < first+steps; step++ {
		e.ZeroGrads()
		b := randomBatch(e.cfg, uint64(step), 3, seq)
		b.Boundaries, b.EndToken = step%2 == 1, 1
		stats, err := e.Backward(b)
		if err != nil {
			t.Fatal(err)
		}
		e.ScaleGrads(1 / float32(stats.Tokens))
		if s := a.Step(e.Params(), e.Grads(), 1e-2); !s.Applied {
			t.Fatalf("step %d has gradient norm %v", step, s.GradNorm)
		}
		e.UpdateState()
		losses = append(losses, stats.LossSum, stats.BalanceLoss, stats.ZLoss)
	}
	return losses
}

// TestThreadsDoNotChangeBits is rule D2.
func TestThreadsDoNotChangeBits(t *testing.T) {
	names := []string{"grouped queries, no shared expert", "norm head, tied, one key head", "everything", "routing of every kind"}
	for _, set := range kernel.Available() {
		for _, name := range names {
			cfg := named(t, name)
			t.Run(set+"/"+name, func(t *testing.T) {
				var wantLosses []float64
				var want []float32
				for _, threads := range []int{1, 2, 3, 8} {
					e := newEngine(t, cfg, Options{Threads: threads, Kernel: kernelSet(t, set)})
					losses := train(t, e, NewAdamWOn(e.kernel, cfg, testAdamW(), threads), 0, 3, 100)
					if want == nil {
						wantLosses, want = losses, e.params
					}
					if i := sameBits(e.params, want); i >= 0 || !slices.Equal(losses, wantLosses) {
						t.Errorf("%d threads: losses %v, want %v; first difference at %d", threads, losses, wantLosses, i)
					}
				}
			})
		}
	}
}

// TestSplitDoesNotChangeGradient is case A9 with A7: the gradient of a sum over
// tokens does not depend on how a batch was cut into calls; here not in a bit,
// except where head and embedding are one tensor with two chains.
func TestSplitDoesNotChangeGradient(t *testing.T) {
	for _, cfg := range enginetest.Configs() {
		t.Run(cfg.Name, func(t *testing.T) {
			const rows, seq = 8, 33
			e := newEngine(t, cfg, Options{Threads: 1})
			b := randomBatch(cfg, 20, rows, seq)
			b.Boundaries, b.EndToken = true, 4 // sequences differ in target tokens
			whole, err := e.Backward(b)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(e.grads)
			for _, part := range []int{1, 2, 3, 4} {
				e.ZeroGrads()
				stats := splitBackward(t, e, b, part)
				if math.Abs(stats.LossSum/whole.LossSum-1) > 1e-12 || math.Abs(stats.BalanceLoss-whole.BalanceLoss) > 1e-12 {
					t.Errorf("parts of %d: loss %v, balance %v; whole %v, %v", part, stats.LossSum, stats.BalanceLoss, whole.LossSum, whole.BalanceLoss)
				}
				if i := sameBits(e.grads, want); i >= 0 && !(cfg.TiedEmbeddings && tensorAt(cfg, i) == "embedding") {
					t.Errorf("parts of %d: gradient of %s differs", part, tensorAt(cfg, i))
				}
				if r := relative(e.grads, widen(want)); r > 1e-6 {
					t.Errorf("parts of %d: gradient is off by %.2g", part, r)
				}
			}
		})
	}
}

// splitBackward runs a batch in calls of part sequences each.
func splitBackward(t *testing.T, e *Engine, b Batch, part int) (total BatchStats) {
	t.Helper()
	for from := 0; from < b.Rows; from += part {
		s, err := e.Backward(b.sequences(from, min(from+part, b.Rows)))
		if err != nil {
			t.Fatal(err)
		}
		total.Add(s)
	}
	return total
}

// TestPassesDoNotChangeGradient has a batch above groupTokens, which is worked
// off in several passes.
func TestPassesDoNotChangeGradient(t *testing.T) {
	for _, name := range []string{"plain", "routing warm-up"} {
		t.Run(name, func(t *testing.T) {
			cfg := named(t, name)
			const rows, seq = groupTokens/500 + 2, 500
			e, b := newEngine(t, cfg, Options{Threads: 2}), randomBatch(cfg, 21, rows, seq)
			stats, err := e.Backward(b)
			if err != nil {
				t.Fatal(err)
			}
			if e.capacity.tokens() > groupTokens {
				t.Errorf("a pass holds %d tokens", e.capacity.tokens())
			}
			choices := int64(0)
			for _, n := range stats.ExpertTokens {
				choices += n
			}
			if want := int64(rows * seq * cfg.TopK * cfg.Layers); choices != want {
				t.Errorf("%d choices are counted, want %d", choices, want)
			}
			want := slices.Clone(e.grads)
			e.ZeroGrads()
			splitBackward(t, e, b, 1)
			if i := sameBits(e.grads, want); i >= 0 {
				t.Errorf("gradient of %s differs", tensorAt(cfg, i))
			}
		})
	}
}

// TestSavedMomentsContinue is what resuming stands on: parameters, moments and
// step count are the whole state.
func TestSavedMomentsContinue(t *testing.T) {
	cfg := named(t, "everything")
	e := newEngine(t, cfg, Options{Threads: 2})
	a := NewAdamW(cfg, testAdamW(), 2)
	train(t, e, a, 0, 3, 20)
	m, v := a.Moments()
	params, firstMoment, secondMoment, steps := slices.Clone(e.params), slices.Clone(m), slices.Clone(v), a.Steps()
	want := train(t, e, a, 3, 3, 20)

	resumed := newEngine(t, cfg, Options{Threads: 1})
	copy(resumed.Params(), params)
	b := NewAdamW(cfg, testAdamW(), 1)
	m, v = b.Moments()
	copy(m, firstMoment)
	copy(v, secondMoment)
	b.SetSteps(steps)
	if got := train(t, resumed, b, 3, 3, 20); !slices.Equal(got, want) {
		t.Errorf("losses after a restore are %v, want %v", got, want)
	}
	if i := sameBits(resumed.params, e.params); i >= 0 {
		t.Errorf("%s differs", tensorAt(cfg, i))
	}
}

// TestShapesMayChange goes from one batch shape to others and back.
func TestShapesMayChange(t *testing.T) {
	cfg := named(t, "everything")
	e := newEngine(t, cfg, Options{Threads: 2})
	first := map[string]float64{}
	for round := range 2 {
		for i, s := range []shape{{2, 10}, {1, 10}, {3, 10}, {1, 40}, {5, 3}} {
			sum, _, err := e.Loss(Batch{Tokens: randomTokens(cfg, uint64(30+i), s.rows, s.seq), Rows: s.rows})
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprint(s)
			if round == 0 {
				first[name] = sum
			}
			if sum != first[name] {
				t.Errorf("shape %s: loss %v, before %v", name, sum, first[name])
			}
		}
	}
}

// TestBalanceGradientWhateverTheCut is case A7: 8 identical sequences as micro-batch ×
// accumulation 1×8, 2×4, 4×2 and 8×1. The router's gradient is that of the balance loss
// alone once the z-loss is off and a router sees no loss of tokens: its weights do not
// enter the output when only one expert is visited and weights are scaled to sum 1.
func TestBalanceGradientWhateverTheCut(t *testing.T) {
	cfg := named(t, "tied, top 1")
	cfg.ZCoef = 0
	e := newEngine(t, cfg, Options{Threads: 2})
	one := randomTokens(cfg, 50, 1, 40)
	b := Batch{Rows: 8}
	for range b.Rows {
		b.Tokens = append(b.Tokens, one...)
	}
	var want []float64
	var logged float64
	for _, part := range []int{8, 1, 2, 4} {
		e.ZeroGrads()
		stats := splitBackward(t, e, b, part)
		e.ScaleGrads(1 / float32(stats.Tokens))
		router := widen(e.g.layers[0].router)
		if want == nil {
			want, logged = router, stats.BalanceLoss
		}
		if r := relative(e.g.layers[0].router, want); !(r <= 1e-5) || scalar.Dot(router, router) == 0 {
			t.Errorf("micro-batches of %d: the router's gradient is off by %.2g", part, r)
		}
		if math.Abs(stats.BalanceLoss/logged-1) > 1e-5 {
			t.Errorf("micro-batches of %d: balance loss %v, of 8 %v", part, stats.BalanceLoss, logged)
		}
	}
	cfg.BalanceCoef = 0
	off := newEngine(t, cfg, Options{Threads: 1})
	if _, err := off.Backward(b); err != nil {
		t.Fatal(err)
	}
	if g := widen(off.g.layers[0].router); scalar.Dot(g, g) > 1e-9*scalar.Dot(want, want) {
		t.Error("the router has a gradient without the balance loss: this test sees more than it")
	}
}

// TestMeanOfUnequalParts is case A9: 100 tokens with a summed loss of 200 and 300 with
// 1200 are 3.5 a token; a mean of means would say 3.0.
func TestMeanOfUnequalParts(t *testing.T) {
	var s BatchStats
	s.Add(BatchStats{Sequences: 1, Tokens: 100, LossSum: 200})
	s.Add(BatchStats{Sequences: 1, Tokens: 300, LossSum: 1200})
	if s.Loss() != 3.5 {
		t.Errorf("the mean loss is %v, want 3.5", s.Loss())
	}
	if empty := (BatchStats{}); !math.IsNaN(empty.Loss()) {
		t.Errorf("no tokens have the loss %v", empty.Loss())
	}
}

// TestGradientOfUnequalParts is the rest of A9: sequences of 100, 150, 75 and 75 target
// tokens have one gradient, cut anyhow, as 100 and 300 too.
func TestGradientOfUnequalParts(t *testing.T) {
	cfg := named(t, "everything")
	e := newEngine(t, cfg, Options{Threads: 2})
	const end = 6
	b := Batch{Rows: 4, Boundaries: true, EndToken: end}
	for _, every := range []int{3, 151, 2, 2} { // input in so many ends a document
		for i := range 151 {
			token := int32(i*i) % end
			if i%every == every-1 {
				token = end
			}
			b.Tokens = append(b.Tokens, token)
		}
	}
	var want []float64
	var loss float64
	for _, cut := range [][]int{{0, 4}, {0, 1, 4}, {0, 3, 4}, {0, 1, 2, 3, 4}} {
		e.ZeroGrads()
		var sum BatchStats
		for i := range len(cut) - 1 {
			s, err := e.Backward(b.sequences(cut[i], cut[i+1]))
			if err != nil {
				t.Fatal(err)
			}
			sum.Add(s)
		}
		if sum.Tokens != 400 {
			t.Fatalf("cut at %v: %d target tokens", cut, sum.Tokens)
		}
		e.ScaleGrads(1 / float32(sum.Tokens))
		if want == nil {
			want, loss = widen(e.grads), sum.Loss()
		}
		if r := relative(e.grads, want); r > 1e-6 || math.Abs(sum.Loss()/loss-1) > 1e-6 {
			t.Errorf("cut at %v: loss %v instead of %v, gradient off by %.2g", cut, sum.Loss(), loss, r)
		}
	}
}

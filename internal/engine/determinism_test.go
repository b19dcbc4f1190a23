package engine

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/kernel"
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
		stats, err := e.Backward(Batch{Tokens: randomTokens(e.cfg, uint64(step), 3, seq), Rows: 3, Boundaries: step%2 == 1, EndToken: 1})
		if err != nil {
			t.Fatal(err)
		}
		e.ScaleGrads(1 / float32(stats.Tokens))
		if s := a.Step(e.Params(), e.Grads(), 1e-2); !s.Applied {
			t.Fatalf("step %d has gradient norm %v", step, s.GradNorm)
		}
		losses = append(losses, stats.LossSum, stats.BalanceLoss, stats.ZLoss)
	}
	return losses
}

// TestThreadsDoNotChangeBits is rule D2.
func TestThreadsDoNotChangeBits(t *testing.T) {
	configs := enginetest.Configs()
	for _, set := range kernel.Available() {
		for _, cfg := range []model.Config{configs[1], configs[4], configs[len(configs)-2]} {
			t.Run(set+"/"+cfg.Name, func(t *testing.T) {
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
			tokens := randomTokens(cfg, 20, rows, seq)
			whole, err := e.Backward(Batch{Tokens: tokens, Rows: rows})
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(e.grads)
			for _, part := range []int{1, 2, 4} {
				e.ZeroGrads()
				stats := splitBackward(t, e, tokens, rows, part)
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

// splitBackward runs rows sequences in calls of part each. Sums add, means weigh
// by tokens.
func splitBackward(t *testing.T, e *Engine, tokens []int32, rows, part int) (total BatchStats) {
	t.Helper()
	each := len(tokens) / rows * part
	for ; len(tokens) > 0; tokens = tokens[each:] {
		s, err := e.Backward(Batch{Tokens: tokens[:each], Rows: part})
		if err != nil {
			t.Fatal(err)
		}
		total.Tokens += s.Tokens
		total.LossSum += s.LossSum
		total.BalanceLoss += s.BalanceLoss * float64(part) / float64(rows)
	}
	return total
}

// TestPassesDoNotChangeGradient has a batch above groupTokens, which is worked
// off in several passes.
func TestPassesDoNotChangeGradient(t *testing.T) {
	cfg := named(t, "plain")
	const rows, seq = groupTokens/500 + 2, 500
	e, tokens := newEngine(t, cfg, Options{Threads: 2}), randomTokens(cfg, 21, rows, seq)
	stats, err := e.Backward(Batch{Tokens: tokens, Rows: rows})
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
	splitBackward(t, e, tokens, rows, 1)
	if i := sameBits(e.grads, want); i >= 0 {
		t.Errorf("gradient of %s differs", tensorAt(cfg, i))
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

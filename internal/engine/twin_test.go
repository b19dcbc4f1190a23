package engine

import (
	"fmt"
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// newEngine gives an engine that is closed with the test. Its weights are large,
// so that every part of the model matters to the loss: at initialisation a
// missing attention would move it by less than 0.1 %.
func newEngine(t testing.TB, cfg model.Config, o Options) *Engine {
	t.Helper()
	e, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	stream := rng.New(3, rng.Test, 0)
	for i := range e.params {
		e.params[i] = float32(0.4 * stream.Normal())
	}
	for _, l := range e.layers {
		if stats := l.w.routerStats; stats != nil {
			stats[1] = float32(math.Abs(float64(stats[1]))) // a variance
		}
	}
	return e
}

func kernelSet(t testing.TB, name string) *kernel.Set {
	t.Helper()
	set, err := kernel.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// relative is the L2 norm of got - want over that of want.
func relative(got []float32, want []float64) float64 {
	var difference, norm float64
	for i := range want {
		d := float64(got[i]) - want[i]
		difference += d * d
		norm += want[i] * want[i]
	}
	if difference == 0 {
		return 0
	}
	return math.Sqrt(difference / norm)
}

// randomBatch is a batch in the middle of the routing warm-up, if the model has one.
func randomBatch(cfg model.Config, index uint64, rows, seq int) Batch {
	b := Batch{Tokens: randomTokens(cfg, index, rows, seq), Rows: rows}
	if cfg.RoutingWarmupTokens > 0 {
		b.Warmup = &RoutingWarmup{Tokens: int64(cfg.RoutingWarmupTokens) * 3 / 5, Seed: 17}
		for row := range rows {
			b.Warmup.Samples = append(b.Warmup.Samples, 1000*index+uint64(row))
		}
	}
	return b
}

// sequences are rows [from, to) of a batch.
func (b Batch) sequences(from, to int) Batch {
	width := len(b.Tokens) / b.Rows
	b.Tokens, b.Rows = b.Tokens[from*width:to*width], to-from
	if b.Warmup != nil {
		w := *b.Warmup
		w.Samples = w.Samples[from:to]
		b.Warmup = &w
	}
	return b
}

// twinBatch is a batch as the twin takes it. Its noise is drawn one number after the
// other, the engine's skips to where it is.
func twinBatch(cfg model.Config, b Batch, imposed [][]int32) scalar.Batch {
	twin := scalar.Batch{Tokens: b.Tokens, Rows: b.Rows, Boundaries: b.Boundaries, EndToken: b.EndToken, Choices: imposed}
	if w, seq := b.Warmup, len(b.Tokens)/b.Rows-1; w != nil {
		twin.Warmup = &scalar.Warmup{
			Alpha: float64(w.Tokens) / float64(cfg.RoutingWarmupTokens),
			Eps: func(row, layer, token, expert int) float64 {
				stream := rng.New(w.Seed, rng.Routing, w.Samples[row])
				for range (layer*seq+token)*cfg.Experts + expert {
					stream.Normal()
				}
				return stream.Normal()
			},
		}
	}
	return twin
}

// checkAgainstTwin compares a batch's losses and every tensor's gradient with
// the float64 twin's, the engine's choices imposed on it.
func checkAgainstTwin(t *testing.T, e *Engine, b Batch) {
	t.Helper()
	stats, err := e.Backward(b)
	if err != nil {
		t.Fatal(err)
	}
	twin := scalar.NewModel[float64](e.cfg, e.params)
	want := twin.Run(twinBatch(e.cfg, b, e.Choices()), true)
	if stats.Tokens != want.Tokens {
		t.Errorf("%d target tokens, twin %d", stats.Tokens, want.Tokens)
	}
	if math.Abs(stats.LossSum/want.Loss-1) > 1e-6 {
		t.Errorf("loss %v, twin %v", stats.LossSum, want.Loss)
	}
	moe := float64(b.Rows * max(1, e.cfg.Layers-e.cfg.DenseLayers))
	if math.Abs(stats.BalanceLoss-want.Balance/moe) > 1e-6 || math.Abs(stats.ZLoss-want.Z/moe) > 1e-5 {
		t.Errorf("balance loss %v and z-loss %v, twin %v and %v", stats.BalanceLoss, stats.ZLoss, want.Balance/moe, want.Z/moe)
	}
	for _, tensor := range e.cfg.Tensors() {
		from, to := tensor.Offset, tensor.Offset+tensor.Size()
		if r := relative(e.grads[from:to], twin.Grads[from:to]); !(r < 1e-5) {
			t.Errorf("gradient of %s is off by %.2g", tensor.Name, r)
		}
	}
}

func TestBackwardAgreesWithTwin(t *testing.T) {
	for _, name := range kernel.Available() {
		for _, cfg := range enginetest.Configs() {
			t.Run(name+"/"+cfg.Name, func(t *testing.T) {
				e := newEngine(t, cfg, Options{Threads: 2, Kernel: kernelSet(t, name)})
				checkAgainstTwin(t, e, randomBatch(cfg, 1, 3, 21))
			})
		}
	}
}

// TestBackwardAgreesWithTwinAcrossBlocks has sequences that are longer than a
// block of tokens, do not end with one, and straddle their bounds.
func TestBackwardAgreesWithTwinAcrossBlocks(t *testing.T) {
	for _, name := range []string{"grouped queries, no shared expert", "everything"} {
		cfg := named(t, name)
		t.Run(cfg.Name, func(t *testing.T) {
			e := newEngine(t, cfg, Options{Threads: 2})
			checkAgainstTwin(t, e, Batch{Tokens: randomTokens(cfg, 2, 2, tokenBlock+37), Rows: 2})
		})
	}
}

// TestChoicesAgreeWithTwin leaves the twin its own choices: on random weights no
// two logits are as close as rounding.
func TestChoicesAgreeWithTwin(t *testing.T) {
	for _, cfg := range enginetest.Configs() {
		t.Run(cfg.Name, func(t *testing.T) {
			e, b := newEngine(t, cfg, Options{Threads: 1}), randomBatch(cfg, 3, 2, 30)
			if _, err := e.Backward(b); err != nil {
				t.Fatal(err)
			}
			want := scalar.NewModel[float64](cfg, e.params).Run(twinBatch(cfg, b, nil), false).Choices
			if fmt.Sprint(e.Choices()) != fmt.Sprint(want) {
				t.Error("the engine chose other experts than its twin")
			}
		})
	}
}

func TestLossAgreesWithBackward(t *testing.T) {
	cfg := enginetest.Configs()[3]
	e, tokens := newEngine(t, cfg, Options{Threads: 1}), randomTokens(cfg, 4, 3, 17)
	stats, err := e.Backward(Batch{Tokens: tokens, Rows: 3})
	if err != nil {
		t.Fatal(err)
	}
	sum, n, err := e.Loss(Batch{Tokens: tokens, Rows: 3})
	if err != nil || sum != stats.LossSum || n != stats.Tokens {
		t.Errorf("Loss gives %v over %d tokens (%v), Backward %v over %d", sum, n, err, stats.LossSum, stats.Tokens)
	}
}

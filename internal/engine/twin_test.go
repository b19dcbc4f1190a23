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

// choices are the experts that the engine chose in its last pass.
func (e *Engine) choices() scalar.Choices {
	all := make(scalar.Choices, len(e.layers))
	for i, l := range e.layers {
		if !l.moe() {
			continue
		}
		for t := range e.shape.tokens() {
			var token []int
			for _, c := range l.acts.routing.choice[t*e.cfg.TopK : (t+1)*e.cfg.TopK] {
				token = append(token, int(c))
			}
			all[i] = append(all[i], token)
		}
	}
	return all
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

// checkAgainstTwin compares a batch's losses and every tensor's gradient with
// the float64 twin's, the engine's choices imposed on it.
func checkAgainstTwin(t *testing.T, e *Engine, tokens []int32, rows int) {
	t.Helper()
	stats, err := e.Backward(tokens, rows)
	if err != nil {
		t.Fatal(err)
	}
	twin := scalar.NewModel[float64](e.cfg, e.params)
	want := twin.Run(tokens, rows, e.choices(), true)
	if math.Abs(stats.LossSum/want.Loss-1) > 1e-6 {
		t.Errorf("loss %v, twin %v", stats.LossSum, want.Loss)
	}
	moe := float64(rows * max(1, e.cfg.Layers-e.cfg.DenseLayers))
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
				checkAgainstTwin(t, e, randomTokens(cfg, 1, 3, 21), 3)
			})
		}
	}
}

// TestBackwardAgreesWithTwinAcrossBlocks has sequences that are longer than a
// block of tokens, do not end with one, and straddle their bounds.
func TestBackwardAgreesWithTwinAcrossBlocks(t *testing.T) {
	configs := enginetest.Configs()
	for _, cfg := range []model.Config{configs[1], configs[len(configs)-2]} {
		t.Run(cfg.Name, func(t *testing.T) {
			e := newEngine(t, cfg, Options{Threads: 2})
			checkAgainstTwin(t, e, randomTokens(cfg, 2, 2, tokenBlock+37), 2)
		})
	}
}

// TestChoicesAgreeWithTwin leaves the twin its own choices: on random weights no
// two logits are as close as rounding.
func TestChoicesAgreeWithTwin(t *testing.T) {
	cfg := enginetest.Configs()[0]
	e, tokens := newEngine(t, cfg, Options{Threads: 1}), randomTokens(cfg, 3, 2, 30)
	if _, err := e.Backward(tokens, 2); err != nil {
		t.Fatal(err)
	}
	want := scalar.NewModel[float64](cfg, e.params).Run(tokens, 2, nil, false).Choices
	if fmt.Sprint(e.choices()) != fmt.Sprint(want) {
		t.Error("the engine chose other experts than its twin")
	}
}

func TestLossAgreesWithBackward(t *testing.T) {
	cfg := enginetest.Configs()[3]
	e, tokens := newEngine(t, cfg, Options{Threads: 1}), randomTokens(cfg, 4, 3, 17)
	stats, err := e.Backward(tokens, 3)
	if err != nil {
		t.Fatal(err)
	}
	sum, n, err := e.Loss(tokens, 3)
	if err != nil || sum != stats.LossSum || n != stats.Tokens {
		t.Errorf("Loss gives %v over %d tokens (%v), Backward %v over %d", sum, n, err, stats.LossSum, stats.Tokens)
	}
}

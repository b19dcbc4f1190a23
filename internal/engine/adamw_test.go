package engine

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// TestAdamWAgreesWithTwin runs steps whose gradients are clipped and not, on
// tensors with and without decay.
func TestAdamWAgreesWithTwin(t *testing.T) {
	cfg, config := named(t, "everything"), testAdamW()
	const rate = 0.01
	for _, name := range kernel.Available() {
		a := NewAdamWOn(kernelSet(t, name), cfg, config, 2)
		params := normals(40, floats(cfg.Size()))
		want, m, v := widen(params), make([]float64, len(params)), make([]float64, len(params))
		for step := 1; step <= 4; step++ {
			grads := normals(uint64(40+step), floats(cfg.Size()))
			factor := math.Pow(0.1, float64(step)) // norms from about 6 down to 0.006
			for i := range grads {
				grads[i] *= float32(factor)
			}
			stats := a.Step(params, grads, rate)
			norm := math.Sqrt(scalar.Dot(widen(grads), widen(grads)))
			if math.Abs(stats.GradNorm/norm-1) > 1e-6 || !stats.Applied {
				t.Errorf("%s: step %d: %+v, want norm %v", name, step, stats, norm)
			}
			clip := min(1, config.ClipNorm/(norm+1e-6))
			for _, tensor := range cfg.Tensors() {
				twin := scalar.AdamW{Beta1: config.Beta1, Beta2: config.Beta2, Eps: config.Eps, Rate: rate}
				if tensor.Decay {
					twin.Decay = config.WeightDecay
				}
				for i := tensor.Offset; i < tensor.Offset+tensor.Size(); i++ {
					want[i], m[i], v[i] = twin.Step(want[i], clip*float64(grads[i]), m[i], v[i], step)
				}
			}
		}
		near(t, name+": params", params, want, 1e-6)
		gotM, gotV := a.Moments()
		near(t, name+": first moments", gotM, m, 1e-6)
		near(t, name+": second moments", gotV, v, 1e-6)
		if a.Steps() != 4 {
			t.Errorf("%s: %d steps are counted", name, a.Steps())
		}
	}
}

// TestNonFiniteGradientChangesNothing is case B2: the step is not applied and
// says so, and the norm is passed on as it is, never as 0.
func TestNonFiniteGradientChangesNothing(t *testing.T) {
	cfg := named(t, "plain")
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		a := NewAdamW(cfg, testAdamW(), 2)
		params, grads := normals(50, floats(cfg.Size())), normals(51, floats(cfg.Size()))
		a.Step(params, grads, 0.01)
		m, v := a.Moments()
		before := [][]float32{slices.Clone(params), slices.Clone(m), slices.Clone(v)}
		grads[cfg.Size()-1] = float32(bad)
		stats := a.Step(params, grads, 0.01)
		if stats.Applied || !(math.IsNaN(stats.GradNorm) || math.IsInf(stats.GradNorm, 1)) {
			t.Errorf("gradient %v: %+v", bad, stats)
		}
		if a.Steps() != 1 {
			t.Errorf("gradient %v: %d steps are counted", bad, a.Steps())
		}
		for i, now := range [][]float32{params, m, v} {
			if at := sameBits(now, before[i]); at >= 0 {
				t.Errorf("gradient %v: vector %d changed at %d", bad, i, at)
			}
		}
		if stats = a.Step(params, normals(52, grads), 0.01); !stats.Applied {
			t.Errorf("the next finite step was not applied: %+v", stats)
		}
	}
}

// TestSmallStepsAreNotLost is case B11: with fp32 masters a rate of 6e-4 moves a
// weight of 1.0 by 0.06 in 100 steps.
func TestSmallStepsAreNotLost(t *testing.T) {
	cfg := named(t, "plain")
	a := NewAdamW(cfg, AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, 1)
	params, grads := floats(cfg.Size()), floats(cfg.Size())
	for i := range params {
		params[i], grads[i] = 1, 1
	}
	for range 100 {
		a.Step(params, grads, 6e-4)
	}
	if math.Abs(float64(params[0])-0.94) > 1e-4 {
		t.Errorf("the weight is %v after 100 steps, want 0.94", params[0])
	}
}

func TestDecayGroups(t *testing.T) {
	cfg := named(t, "everything")
	a := NewAdamW(cfg, AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.5}, 1)
	params := floats(cfg.Size())
	for i := range params {
		params[i] = 1
	}
	a.Step(params, floats(cfg.Size()), 0.1)
	for _, tensor := range cfg.Tensors() {
		want := float32(1)
		if tensor.Kind != model.Norm && tensor.Kind != model.Embedding {
			want = 0.95
		}
		if got := params[tensor.Offset]; got != want {
			t.Errorf("%s is %v after one step of decay, want %v", tensor.Name, got, want)
		}
	}
}

func TestAdamWConfigValidate(t *testing.T) {
	if err := testAdamW().Validate(); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(c *AdamWConfig){
		"beta1":        func(c *AdamWConfig) { c.Beta1 = 1 },
		"beta2":        func(c *AdamWConfig) { c.Beta2 = -0.1 },
		"eps":          func(c *AdamWConfig) { c.Eps = 0 },
		"weight_decay": func(c *AdamWConfig) { c.WeightDecay = math.NaN() },
		"clip_norm":    func(c *AdamWConfig) { c.ClipNorm = math.Inf(1) },
	} {
		c := testAdamW()
		change(&c)
		var input *fault.Input
		if err := c.Validate(); !errors.As(err, &input) || input.Where != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

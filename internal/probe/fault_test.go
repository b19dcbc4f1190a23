package probe

import (
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/model"
)

// mistake is one of a learner's that computes something else than the run's model.
type mistake struct {
	name    string
	formats []string // in whose bounds it shows
	config  func(c *model.Config)
	weights func(cfg model.Config, flat []float32)
	grads   func(cfg model.Config, flat []float32)
	joined  bool // documents are not kept apart
}

// tensorsEnding calls f for the part of a flat vector that belongs to each tensor so named.
func tensorsEnding(suffix string, f func(t model.Tensor, x []float32)) func(model.Config, []float32) {
	return func(cfg model.Config, flat []float32) {
		for _, t := range cfg.Tensors() {
			if strings.HasSuffix(t.Name, suffix) {
				f(t, flat[t.Offset:t.Offset+t.Size()])
			}
		}
	}
}

func mistakes() []mistake {
	every, exact := []string{gate.FP32, gate.BF16}, []string{gate.FP32}
	transposed := func(t model.Tensor, x []float32) {
		rows, cols, old := t.Shape[0], t.Shape[1], slices.Clone(x)
		for i := range x {
			x[i] = old[i%rows*cols+i/rows]
		}
	}
	scaled := func(f float32) func(model.Config, []float32) {
		return func(_ model.Config, flat []float32) {
			for i := range flat {
				flat[i] *= f
			}
		}
	}
	nothing := func(_ model.Tensor, x []float32) { clear(x) }
	return []mistake{
		{name: "base of rotary positions", formats: every, config: func(c *model.Config) { c.RopeTheta /= 10 }},
		{name: "base of rotary positions, 5 % off", formats: exact, config: func(c *model.Config) { c.RopeTheta *= 1.05 }},
		{name: "mask lets other documents in", formats: every, joined: true},
		{name: "no attention", formats: every, weights: tensorsEnding(".o", nothing)},
		{name: "transposed matrix", formats: every, weights: tensorsEnding("layers.0.attention.o", transposed)},
		{name: "weights of experts do not sum to 1", formats: every, config: func(c *model.Config) { c.NormTopK = !c.NormTopK }},
		{name: "head without its norm", formats: every, config: func(c *model.Config) { c.NormHead = !c.NormHead }},
		{name: "no balance loss", formats: every, config: func(c *model.Config) { c.BalanceCoef = 0 }},
		{name: "no router z-loss", formats: exact, config: func(c *model.Config) { c.ZCoef = 0 }},
		{name: "eps of norms", formats: exact, config: func(c *model.Config) { c.NormEps *= 1000 }},
		{name: "no gradient of norms", formats: every, grads: tensorsEnding("norm", nothing)},
		{name: "no gradient of a router", formats: every, grads: tensorsEnding("layers.0.router", nothing)},
		{name: "gradient over two micro-batches, not their mean", formats: every, grads: scaled(2)},
		{name: "gradient 1 % too long", formats: exact, grads: scaled(1.01)},
	}
}

// What the gate is for: every mistake is refused, on sharpened weights and on weights as
// they are drawn, and what computes the model rightly is not.
func TestMistakesAreRefused(t *testing.T) {
	cfg := configs(t)["ling-tiny"]
	for _, weights := range []string{"sharpened", "as drawn"} {
		t.Run(weights, func(t *testing.T) {
			eng, set := newEngine(t, cfg, "", nil)
			engine.InitParams(cfg, 1, eng.Params())
			if weights == "sharpened" {
				gate.Sharpen(cfg, 1, eng.Params())
			}
			r := recordOf(t, eng, 1, 64)
			for _, format := range []string{gate.FP32, gate.BF16} {
				profile := profileOf(t, format)
				own, err := Own(eng, set, 2, profile, r)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range append(mistakes(), mistake{name: "none"}) {
					bad := cfg
					if m.config != nil {
						m.config(&bad)
					}
					other, _ := newEngine(t, bad, "", profile)
					copy(other.Params(), eng.Params())
					if m.weights != nil {
						m.weights(cfg, other.Params())
					}
					asked := r
					asked.Probe.Boundaries = asked.Probe.Boundaries && !m.joined
					answer, err := Answer(other, profile, asked, func(g []float32) {
						if m.grads != nil {
							m.grads(cfg, g)
						}
					})
					if err != nil {
						t.Fatalf("%s: %v", m.name, err)
					}
					answer.Probe = r.Probe // who makes the mistake does not know of it
					v, err := gate.Judge(r, answer, &own)
					if err != nil {
						t.Fatalf("%s: %v", m.name, err)
					}
					t.Logf("%s, %s: loss off by %.2g, %d tensors outside, worst %s at %.3g bounds", m.name, format, v.Loss.Error, v.Outside, v.Worst.Name, v.Worst.Ratio())
					if want := m.name == "none"; (want || slices.Contains(m.formats, format)) && v.Passed != want {
						t.Errorf("%s in %s: %s", m.name, format, v.Reason)
					}
				}
			}
		})
	}
}

package model

import (
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// presets lists the built-in models, smallest first. Initial weights deviate by
// little less than 1/√Dim: after 400,000 bytes of Go source ling-nano is at 2.36 nats
// with 0.02, 2.26 with 0.05 and 2.25 with 0.09.
func presets() []Config {
	tiny := ling("ling-tiny", 2, 16, 8, 4, 16)
	tiny.Heads, tiny.KVHeads, tiny.InitStd = 2, 1, 0.2
	nano := ling("ling-nano", 4, 128, 32, 16, 96)
	nano.Heads, nano.KVHeads, nano.InitStd = 4, 2, 0.08
	micro := ling("ling-micro", 6, 256, 32, 16, 240)
	micro.Heads, micro.KVHeads, micro.InitStd = 8, 4, 0.05
	mini := ling("ling-mini", 8, 512, 64, 16, 448)
	mini.Heads, mini.KVHeads, mini.InitStd = 8, 4, 0.03
	return []Config{tiny, nano, micro, mini, lingLite(), lingPlus()}
}

// lingLite and lingPlus are the published models, from the files that
// inclusionAI/Ling ships (inference/mindie): for arithmetic, planning and import;
// no machine that the native engine runs on trains them.
func lingLite() Config {
	c := ling("ling-lite", 28, 2048, 128, 64, 1408)
	c.Vocab, c.Heads, c.KVHeads, c.TopK, c.SharedExperts = 126_464, 16, 4, 6, 2
	c.RopeTheta, c.InitStd = 600_000, 0.006
	return c
}

func lingPlus() Config {
	c := ling("ling-plus", 88, 5376, 96, 64, 3072)
	c.Vocab, c.Heads, c.KVHeads, c.TopK = 126_464, 56, 8, 4
	c.RopeTheta, c.InitStd = 600_000, 0.006
	return c
}

// ling is a byte-level model of the shape that the Ling report describes
// (arXiv 2503.05139): fine-grained experts, one shared expert, softmax over all
// experts before the choice, weights scaled to sum 1, NormHead, no tied
// embeddings, its two router losses with its coefficients (section 3.4).
func ling(name string, layers, dim, headDim, experts, ffn int) Config {
	return Config{
		Name: name, Vocab: 256, Dim: dim, Layers: layers, HeadDim: headDim,
		Experts: experts, TopK: 2, ExpertFFN: ffn, SharedExperts: 1,
		RopeTheta: 10_000, NormEps: 1e-6,
		Router: Softmax, NormTopK: true, NormHead: true,
		BalanceCoef: 0.015, ZCoef: 1e-4,
	}
}

// PresetNames lists the built-in models, smallest first.
func PresetNames() []string {
	var names []string
	for _, c := range presets() {
		names = append(names, c.Name)
	}
	return names
}

// Preset gives a built-in model by name: "ling-tiny" (17 thousand parameters,
// for tests), "ling-nano" (3 M), "ling-micro" (20 M), "ling-mini" (100 M), or the
// published "ling-lite" (16.8 B) and "ling-plus" (290 B). An unknown name is a *fault.Input that lists the known ones.
func Preset(name string) (Config, error) {
	for _, c := range presets() {
		if c.Name == name {
			return c, nil
		}
	}
	return Config{}, &fault.Input{
		Where: "model preset", Value: name, Problem: "is not a built-in model",
		Next: "choose one of " + strings.Join(PresetNames(), ", "),
	}
}

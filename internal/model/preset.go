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
	return []Config{tiny, nano, micro, mini}
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
// for tests), "ling-nano" (3 M), "ling-micro" (20 M) or "ling-mini" (100 M). An
// unknown name is a *fault.Input that lists the known ones.
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

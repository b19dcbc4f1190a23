package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/model"
)

// BenchmarkNumeric is a training step of the built-in model under each profile beside one
// in fp32, in turn, one thread each: the median of the ratios of their times. Profiles of
// equal rules are measured once.
func BenchmarkNumeric(b *testing.B) {
	cfg, err := model.Preset("ling-nano")
	if err != nil {
		b.Fatal(err)
	}
	seen := map[[numeric.Operators]numeric.Rule]bool{}
	for _, p := range numeric.Profiles() {
		if p.Plain() || seen[p.Rules] {
			continue
		}
		seen[p.Rules] = true
		b.Run(p.Name, func(b *testing.B) { benchmarkBeside(b, cfg, &p) })
	}
}

func benchmarkBeside(b *testing.B, cfg model.Config, p *numeric.Profile) {
	const rows, seq = 4, 128
	step := func(p *numeric.Profile) func() time.Duration {
		e, err := New(cfg, Options{Threads: 1, Numeric: p})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(e.Close)
		InitParams(cfg, 1, e.Params())
		adam := NewAdamW(cfg, AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, ClipNorm: 1}, 1)
		batch := Batch{Tokens: randomTokens(cfg, 0, rows, seq), Rows: rows}
		return func() time.Duration {
			start := time.Now()
			e.ZeroGrads()
			if _, err := e.Backward(batch); err != nil {
				b.Fatal(err)
			}
			e.ScaleGrads(1.0 / (rows * seq))
			adam.Step(e.Params(), e.Grads(), 1e-4)
			return time.Since(start)
		}
	}
	plain, emulated := step(nil), step(p)
	plain()
	emulated()
	var ratios []float64
	for b.Loop() {
		base := plain()
		ratios = append(ratios, float64(emulated())/float64(base))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "×fp32")
	b.ReportMetric(0, "ns/op")
}

package engine

import (
	"fmt"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// randomTokens is a batch of rows sequences of seq+1 tokens.
func randomTokens(cfg model.Config, index uint64, rows, seq int) []int32 {
	stream, tokens := rng.New(1, rng.Test, index), make([]int32, rows*(seq+1))
	for i := range tokens {
		tokens[i] = int32(stream.Uint32() % uint32(cfg.Vocab))
	}
	return tokens
}

// BenchmarkStepNano is a whole training step of the built-in model, batch 4,
// sequences of 128 tokens.
func BenchmarkStepNano(b *testing.B) {
	cfg, err := model.Preset("ling-nano")
	if err != nil {
		b.Fatal(err)
	}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) { benchmarkStep(b, cfg, threads, 4, 128) })
	}
}

func benchmarkStep(b *testing.B, cfg model.Config, threads, rows, seq int) {
	e, err := New(cfg, Options{Threads: threads})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	InitParams(cfg, 1, e.Params())
	adam := NewAdamW(cfg, AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, ClipNorm: 1}, threads)
	tokens := randomTokens(cfg, 0, rows, seq)
	b.ReportAllocs()
	for b.Loop() {
		e.ZeroGrads()
		if _, err := e.Backward(Batch{Tokens: tokens, Rows: rows}); err != nil {
			b.Fatal(err)
		}
		e.ScaleGrads(1 / float32(rows*seq))
		adam.Step(e.Params(), e.Grads(), 1e-4)
	}
	perStep := float64(rows * seq)
	b.ReportMetric(perStep*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
	f := cfg.FLOPs(seq)
	b.ReportMetric((f.Forward+f.Backward)*perStep*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

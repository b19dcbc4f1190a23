package plan

import (
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/model"
)

// BenchmarkStep predicts one layout.
func BenchmarkStep(b *testing.B) {
	c, err := chip.Builtin().Find("h800-80g-sxm")
	if err != nil {
		b.Fatal(err)
	}
	h, err := HardwareOf(c)
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := model.Preset("ling-plus")
	if err != nil {
		b.Fatal(err)
	}
	m, err := Prepare(Task{Model: anatomy.Of(cfg), Sequence: 4096, Batch: 4096, Format: "bf16"}, h, BuiltinConstants())
	if err != nil {
		b.Fatal(err)
	}
	l := Layout{Layout: anatomy.Layout{TP: 2, EP: 8, ETP: 1, PP: 8}, DP: 32, CP: 1, VPP: 1, MicroBatch: 1, ZeRO: 1, Recompute: anatomy.NoRecompute}
	for _, part := range []struct {
		name string
		do   func(Layout) Step
	}{{"time", m.Time}, {"with memory", m.Step}} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				part.do(l)
			}
		})
	}
}

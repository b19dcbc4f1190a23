package plan_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/plan"
)

func shaped(t *testing.T, s anatomy.Shape) anatomy.Decoder {
	t.Helper()
	d, err := s.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Layouts that a task cannot have are refused with the choices: cases F1, F2, F3, F15
// and F16, and what planning adds to them.
func TestF1F2F3F15F16Refusals(t *testing.T) {
	dense := func(heads, kv int) anatomy.Decoder {
		return shaped(t, anatomy.Shape{Name: "llama", Layers: 12, Hidden: 128 * heads, Heads: heads, KVHeads: kv, FFN: 448, Vocab: 32000})
	}
	ten := shaped(t, anatomy.Shape{Name: "mixtral", Layers: 12, Hidden: 4096, Heads: 32, Experts: 10, TopK: 2, ExpertFFN: 14336, Vocab: 32000})
	usual := plan.Layout{Layout: anatomy.Single(), DP: 1, CP: 1, VPP: 1, MicroBatch: 1}
	for _, c := range []struct {
		name  string
		model anatomy.Decoder
		batch int
		set   func(l *plan.Layout)
		want  string
	}{
		{"F1: 28 heads", dense(28, 28), 8, func(l *plan.Layout) { l.TP = 8 }, `tp "8": does not divide the 28 heads; choices 1 2 4 7 14 28`},
		{"F1: 64 heads", dense(64, 64), 8, func(l *plan.Layout) { l.TP = 3 }, `tp "3": does not divide the 64 heads; choices 1 2 4 8 16 32 64`},
		{"F2: 2 key/value heads", dense(16, 2), 8, func(l *plan.Layout) { l.TP = 4 }, `tp "4": does not divide the 2 key/value heads; at most 2: choices 1 2; or ask for copies`},
		{"F3: batch", dense(16, 16), 100, func(l *plan.Layout) { l.MicroBatch, l.DP = 8, 3 }, `batch "100": is not a multiple of 24 = micro-batch 8 × dp 3; nearest 96 and 120`},
		{"F3: small batch", dense(16, 16), 4, func(l *plan.Layout) { l.MicroBatch, l.DP = 8, 3 }, `batch "4": is not a multiple of 24 = micro-batch 8 × dp 3; nearest 24`},
		{"F15: 10 experts", ten, 8, func(l *plan.Layout) { l.EP = 4 }, `ep "4": does not divide the 10 experts; choices 1 2 5 10`},
		{"more stages than layers", dense(16, 16), 8, func(l *plan.Layout) { l.PP, l.VPP = 4, 4 }, `vpp "4": makes 16 stages of 12 layers; use at most 3`},
		{"virtual stages of no pipeline", dense(16, 16), 8, func(l *plan.Layout) { l.VPP = 2 }, `vpp "2": needs a pipeline`},
		{"a stage without its layers", dense(16, 16), 8, func(l *plan.Layout) { l.PP, l.Stages = 2, []int{6, 5} }, `stages "11": layers in 2 stages; the model has 12`},
		{"ZeRO 4", dense(16, 16), 8, func(l *plan.Layout) { l.ZeRO = 4 }, `zero "4": is no stage of ZeRO; use 0 1 2 3`},
		{"no replicas", dense(16, 16), 8, func(l *plan.Layout) { l.DP = 0 }, `dp "0": is no number`},
		{"sequence in context-parallel halves", dense(16, 16), 8, func(l *plan.Layout) { l.CP = 3 }, `cp "3": does not cut 4096 tokens`},
	} {
		l := usual
		c.set(&l)
		err := l.Check(plan.Task{Model: c.model, Sequence: 4096, Batch: c.batch})
		var in *fault.Input
		if !errors.As(err, &in) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
	l := usual
	l.TP, l.PP = 2, 3
	if err := l.CheckChips(8); err == nil || !strings.HasPrefix(err.Error(), `chips "8": is not a multiple of 6 = tp 2 × pp 3`) {
		t.Errorf("F16: %v", err)
	}
	if err := l.Check(plan.Task{Model: dense(16, 16), Sequence: 4096, Batch: 8}); err != nil || l.CheckChips(12) != nil {
		t.Errorf("a layout that fits: %v", err)
	}
}

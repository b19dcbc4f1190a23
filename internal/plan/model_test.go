package plan_test

import (
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// llama is Llama 3 70B.
func llama(t testing.TB) anatomy.Decoder {
	t.Helper()
	d, err := anatomy.Shape{Name: "llama3-70b", Layers: 80, Hidden: 8192, Heads: 64, KVHeads: 8, FFN: 28672, Vocab: 128256}.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func hardware(t testing.TB, name string) plan.Hardware {
	t.Helper()
	c, err := chip.Builtin().Find(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := plan.HardwareOf(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTermsAddUpToTheStep(t *testing.T) {
	m, err := plan.Prepare(plan.Task{Model: llama(t), Sequence: 8192, Batch: 256, Format: "bf16"}, hardware(t, "h100-80g-sxm"), plan.BuiltinConstants())
	if err != nil {
		t.Fatal(err)
	}
	l := plan.Layout{Layout: anatomy.Layout{TP: 4, PP: 8, EP: 1, ETP: 1, KVCopies: true}, DP: 2, CP: 1, VPP: 5, MicroBatch: 1, ZeRO: 1, Recompute: anatomy.NoRecompute}
	s := m.Step(l)
	sum := 0.0
	for _, x := range s.Terms {
		sum += x
	}
	if d := sum/s.Seconds - 1; d > 1e-9 || d < -1e-9 {
		t.Errorf("terms add up to %g s, the step is %g s", sum, s.Seconds)
	}
	if s.Seconds < 10 || s.Seconds > 60 {
		t.Errorf("a step of %g s", s.Seconds)
	}
}

package plan_test

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

func stepOf(t *testing.T, task plan.Task, l plan.Layout) plan.Step {
	t.Helper()
	m, err := plan.Prepare(task, hardware(t, "h100-80g-sxm"), plan.BuiltinConstants())
	if err != nil {
		t.Fatal(err)
	}
	return m.Step(l)
}

// In 32 bits activations are twice as long, whatever products round them to.
func TestActivationsOf32BitsAreTwiceAsLong(t *testing.T) {
	l := plan.Layout{Layout: anatomy.Layout{TP: 8, PP: 1, EP: 1, ETP: 1, KVCopies: true}, DP: 1, CP: 1, VPP: 1, MicroBatch: 1, Recompute: anatomy.NoRecompute}
	task := plan.Task{Model: llama(t), Sequence: 8192, Batch: 8, Format: "bf16", Stack: plan.Classic}
	short := stepOf(t, task, l)
	for _, format := range []string{"tf32", "fp32"} {
		task.Format = format
		long := stepOf(t, task, l)
		for _, term := range []plan.Term{plan.TensorTraffic, plan.Elementwise} {
			if r := long.Terms[term] / short.Terms[term]; r < 1.8 || r > 2.01 {
				t.Errorf("%s: %v is %.2f times as long", format, term, r)
			}
		}
		if long.Terms[plan.Products] <= short.Terms[plan.Products] {
			t.Errorf("%s is as fast as bf16", format)
		}
	}
}

func TestEachMTPModuleTakesAsLong(t *testing.T) {
	l := plan.Layout{Layout: anatomy.Layout{TP: 8, PP: 1, EP: 1, ETP: 1, KVCopies: true}, DP: 1, CP: 1, VPP: 1, MicroBatch: 1, Recompute: anatomy.NoRecompute}
	var head [4]float64
	for n := range head {
		d := llama(t)
		d.MTP = n
		head[n] = stepOf(t, plan.Task{Model: d, Sequence: 8192, Batch: 8, Format: "bf16"}, l).Terms[plan.Head]
	}
	for n := 2; n < len(head); n++ {
		if more, first := head[n]-head[n-1], head[1]-head[0]; first <= 0 || math.Abs(more/first-1) > 1e-9 {
			t.Errorf("module %d takes %g s, the first %g s", n, more, first)
		}
	}
}

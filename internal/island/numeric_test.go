package island

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

func emulating(name string) func(*runfile.Run) {
	return func(r *runfile.Run) { r.Islands = []runfile.Island{{Pace: 1, Numeric: name}} }
}

// A learner that emulates fp16 trains at the scale that its gradients bear: losses are
// near those of fp32, and no step is lost at the first scale.
func TestLossScalingTrains(t *testing.T) {
	run, data, _ := tiny(t, nil)
	plain := seeded(t, run, data)
	plain.Lease(0, 400)
	want := steps(t, plain, 12)
	run.Islands = []runfile.Island{{Name: "x", Pace: 1, Numeric: "fp16"}}
	l := seeded(t, run, data)
	l.Lease(0, 400)
	for i, s := range steps(t, l, 12) {
		if !s.Applied || s.Loss == want[i].Loss || math.Abs(s.Loss/want[i].Loss-1) > 1e-2 || math.Abs(s.GradientNorm/want[i].GradientNorm-1) > 1e-2 {
			t.Errorf("step %d: %+v, fp32 %+v", i, s, want[i])
		}
	}
	if engineOf(l).scaling.scale != (numeric.LossScale{Value: 65536, Good: 12}) {
		t.Errorf("loss scale %+v", engineOf(l).scaling.scale)
	}
}

// Gradients that overflow fp16 stop the step, halve the scale and leave weights and
// moments as they are (B2); it is no spike, and the samples come again in the next step. A chip that saturates does the same by its flag.
func TestOverflowSkipsTheStep(t *testing.T) {
	for _, name := range []string{"fp16", "ascend-910a"} {
		run, data, _ := tiny(t, emulating(name))
		l := seeded(t, run, data)
		l.Lease(0, 400)
		steps(t, l, 3)
		m, v := engineOf(l).adam.Moments()
		weights, m, v := slices.Clone(l.Params()), slices.Clone(m), slices.Clone(v)
		losses := l.rule.Losses()
		engineOf(l).scaling.scale = numeric.LossScale{Value: 1 << 40, Good: 7}
		s := steps(t, l, 1)[0]
		if s.Decision.Spike || l.position != s.From || l.withheld != 0 || !slices.Equal(l.rule.Losses(), losses) {
			t.Errorf("%s: it counts as a spike or used samples up: %+v", name, s)
		}
		if s.Applied || !math.IsNaN(s.Loss) || l.skipped != 1 || l.step != 4 || engineOf(l).adam.Steps() != 3 {
			t.Errorf("%s: %+v, %d skipped, %d applied", name, s, l.skipped, engineOf(l).adam.Steps())
		}
		if engineOf(l).scaling.scale != (numeric.LossScale{Value: 1 << 39}) {
			t.Errorf("%s: loss scale %+v", name, engineOf(l).scaling.scale)
		}
		nowM, nowV := engineOf(l).adam.Moments()
		if !sameBits(l.Params(), weights) || !sameBits(nowM, m) || !sameBits(nowV, v) {
			t.Errorf("%s: a step that is not applied changes something", name)
		}
		for range 40 { // it finds its way back, with the same samples
			if s = steps(t, l, 1)[0]; s.Applied {
				break
			}
		}
		if !s.Applied || s.From != 12 || l.position != 16 || l.samples[0] != 12 {
			t.Errorf("%s: at scale %v the step is %+v", name, engineOf(l).scaling.scale.Value, s)
		}
	}
}

// A restored learner goes on with the same bits, loss scale and magnitudes included.
func TestNumericStateIsRestored(t *testing.T) {
	for _, name := range []string{"fp16", "fp8-hybrid", "bf16", "fp8-e4m3"} {
		run, data, _ := tiny(t, emulating(name))
		st := store.NewMemory()
		old, s := trained(t, run, data, st)
		l := reborn(t, run, data, old)
		if err := restoreNow(t, l, st, s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l.Lease(48, 400)
		want, got := steps(t, old, 5), steps(t, l, 5)
		if !slices.Equal(got, want) || !sameBits(l.Params(), old.Params()) || engineOf(l).scaling != engineOf(old).scaling {
			t.Errorf("%s: it went on with\n%+v, want\n%+v", name, got, want)
		}
	}
}

func TestNumericStateThatDoesNotFit(t *testing.T) {
	for _, c := range []struct {
		name, why string
		change    func(*capture)
	}{
		{"fp16", "loss scale is 3", func(c *capture) { c.counters.LossScale = 3 }},
		{"fp16", "loss scale is 0", func(c *capture) { c.counters.LossScale = 0 }},
		{"fp16", "2000 good steps", func(c *capture) { c.counters.GoodSteps = 2000 }},
		{"fp8-hybrid", "not a magnitude", func(c *capture) { c.tensors[len(c.tensors)-1].F32[0] = -1 }},
	} {
		run, data, _ := tiny(t, emulating(c.name))
		st := store.NewMemory()
		old, s := trained(t, run, data, st)
		saved, err := captureNow(old)
		if err != nil {
			t.Fatal(err)
		}
		c.change(saved)
		rewrite(t, saved, st, s)
		if err := restoreNow(t, reborn(t, run, data, old), st, s); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", c.name, err, c.why)
		}
	}
}

// A state that another kind of island has saved is taken over, and what this one does not
// find in it, or has no use for, is told.
func TestNumericStateOfAnotherKind(t *testing.T) {
	for _, c := range []struct {
		name, remark string
		change       func(*capture)
	}{
		{"fp16", "the loss scale begins anew at", func(c *capture) { c.counters.LossScale, c.counters.GoodSteps = 0, 0 }},
		{"bf16", "a loss scale of 65536, and this island scales none", func(c *capture) { c.counters.LossScale = 65536 }},
		{"fp8-hybrid", "the scales of 8-bit products begin anew", func(c *capture) { c.tensors = c.tensors[:len(c.tensors)-1] }},
	} {
		run, data, _ := tiny(t, emulating(c.name))
		st := store.NewMemory()
		old, s := trained(t, run, data, st)
		saved, err := captureNow(old)
		if err != nil {
			t.Fatal(err)
		}
		c.change(saved)
		rewrite(t, saved, st, s)
		got, err := restored(t, reborn(t, run, data, old), st, s)
		if err != nil || len(got.Remarks) != 1 || !strings.Contains(got.Remarks[0], c.remark) || len(got.Slots) != 3 {
			t.Errorf("%s: %v, %v; want the remark %q", c.name, got, err, c.remark)
		}
	}
}

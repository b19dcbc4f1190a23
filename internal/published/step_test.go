package published

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
)

func caseOf(t *testing.T, r Run) Case {
	t.Helper()
	c, err := r.Case(chip.Builtin())
	if err != nil {
		t.Fatalf("%s: %v", r.ID, err)
	}
	return c
}

func near(a, b, most float64) bool { return math.Abs(a/b-1) <= most }

// Narayanan et al., arXiv 2104.04473, appendix: 96 B s l h² (1 + s/6h + V/16lh) with
// full recomputation.
func TestHardwareRatesOfNarayanan(t *testing.T) {
	seen := 0
	for _, r := range Builtin() {
		if !strings.HasPrefix(r.ID, "mlm-sc21-") {
			continue
		}
		seen++
		c := caseOf(t, r)
		got, err := c.Step(AllPairs)
		if err != nil {
			t.Fatal(err)
		}
		l, h, s, v := float64(r.Layers.Value), float64(r.Hidden.Value), float64(r.Sequence.Value), float64(r.Vocab.Value)
		want := 96 * float64(r.Batch.Value) * s * l * h * h * (1 + s/(6*h) + v/(16*l*h)) / (r.Measured.Value * 1e12 * float64(r.Chips.Value))
		if !near(got.Seconds, want, 1e-3) {
			t.Errorf("%s: %g s, the paper's formula gives %g", r.ID, got.Seconds, want)
		}
	}
	if seen != 10 {
		t.Errorf("%d runs", seen)
	}
}

// NeMo's tables of 2024 print TFLOPS beside tokens/s: attention is counted over all
// pairs, which is how its table of long sequences, with TFLOPS alone, is read.
func TestModelRatesOfNeMo(t *testing.T) {
	printed := regexp.MustCompile(`model_TFLOPs/chip=(\d+)`)
	all, causal, n := 0.0, 0.0, 0
	for _, r := range Builtin() {
		m := printed.FindStringSubmatch(r.Notes)
		if !strings.HasPrefix(r.ID, "nemo24.07-") || m == nil {
			continue
		}
		rate, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		c := caseOf(t, r)
		step, err := c.Step("")
		if err != nil {
			t.Fatal(err)
		}
		n++
		all += math.Abs(c.seconds(rate, "none", AllPairs)/step.Seconds - 1)
		causal += math.Abs(c.seconds(rate, "none", Causal)/step.Seconds - 1)
	}
	if n < 10 || all >= causal {
		t.Errorf("%d runs: attention over all pairs is off by %.3f in the mean, causal by %.3f", n, all/float64(n), causal/float64(n))
	}
	t.Logf("%d runs: all pairs off by %.4f, causal by %.4f", n, all/float64(n), causal/float64(n))
}

func TestStepsOfEachMetric(t *testing.T) {
	read := func(from, to string) Case {
		t.Helper()
		runs, err := Parse("mine.csv", []byte(header+strings.Replace(line, from, to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return caseOf(t, runs[0])
	}
	step := func(c Case, counting Counting) Step {
		t.Helper()
		s, err := c.Step(counting)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := step(read("step_time,1.5,s", "throughput,512,tokens/s/chip"), ""); s.Seconds != 16*1024/(512.0*8) {
		t.Errorf("%+v", s)
	}
	rate := read("step_time,1.5,s", "model_flops_rate,98.9,TFLOPs/chip")
	causal, all := step(rate, Causal), step(rate, AllPairs)
	if causal.Seconds >= all.Seconds || causal.Unsure != 0 {
		t.Errorf("causal %+v, all %+v", causal, all)
	}
	if mfu := step(read("step_time,1.5,s", "mfu,10,%"), Causal); !near(mfu.Seconds, causal.Seconds, 1e-12) {
		t.Errorf("10 %% of 989 TFLOPS: %+v, 98.9 TFLOPS: %+v", mfu, causal)
	}
	rate = read("1024,16,h100-80g-sxm,8,2,2,2,BF16,step_time,1.5,s", "256,16,h100-80g-sxm,8,2,2,2,BF16,model_flops_rate,98.9,TFLOPs/chip")
	causal, all = step(rate, Causal), step(rate, AllPairs)
	if s := step(rate, ""); s.Unsure <= 0 || s.Seconds <= causal.Seconds || s.Seconds >= all.Seconds {
		t.Errorf("a source that does not say how it counts: %+v", s)
	}
	for to, want := range map[string]float64{"step_time,1500,ms": 1.5, "throughput,4096,tokens/s": 4, "throughput,4,samples/s": 4, "throughput,0.5,samples/s/GPU": 4} {
		if s := step(read("step_time,1.5,s", to), ""); !near(s.Seconds, want, 1e-12) {
			t.Errorf("%s: %+v", to, s)
		}
	}
	between := step(read("h100-80g-sxm,8,2,2,2,BF16,step_time,1.5,s", "ascend-910b,8,2,2,2,BF16,mfu,50,%"), Causal)
	if between.Unsure <= 0 || between.Unsure > mostUnsure {
		t.Errorf("of a peak on which sources disagree: %+v", between)
	}
	unsaid, none, full := read("step_time,1.5,s", "hardware_flops_rate,98.9,TFLOPs/chip"), read("step_time,1.5,s", "hardware_flops_rate,98.9,TFLOPs/chip"), read("step_time,1.5,s", "hardware_flops_rate,98.9,TFLOPs/chip")
	none.Recompute, full.Recompute = "none", "full"
	if got, least, most := step(unsaid, Causal), step(none, Causal), step(full, Causal); !near(got.Seconds, math.Sqrt(least.Seconds*most.Seconds), 1e-12) {
		t.Errorf("%+v is not between %+v and %+v", got, least, most)
	}
	for _, refused := range []struct{ from, to, want string }{
		{"1024,16,h100-80g-sxm,8,2,2,2,BF16,step_time,1.5,s", "65536,16,h100-80g-sxm,8,2,2,2,BF16,hardware_flops_rate,98.9,TFLOPs/chip", "readings differ"},
		{"1024,16,h100-80g-sxm,8,2,2,2,BF16,step_time,1.5,s", "65536,16,h100-80g-sxm,8,2,2,2,BF16,model_flops_rate,98.9,TFLOPs/chip", "readings differ"},
		{"h100-80g-sxm,8,2,2,2,BF16,step_time,1.5,s", "mlu690,8,2,2,2,BF16,mfu,50,%", "nobody knows"},
		{"step_time,1.5,s", "throughput,512,TFLOPs/chip", `unit "TFLOPs/chip": is not that of throughput`},
		{"BF16,step_time,1.5,s", "FP8,mfu,50,%", "is not said to be that of fp8"},
	} {
		if s, err := read(refused.from, refused.to).Step(""); err == nil || !strings.Contains(err.Error(), refused.want) {
			t.Errorf("%s: %+v, %v", refused.to, s, err)
		}
	}
}

// The page says so.
func TestBuiltinStepsAreSure(t *testing.T) {
	s := BuiltinSplit(chip.Builtin())
	for _, c := range comparable(t, s) {
		if step, err := c.Step(s.Of(c.Run.Source).Counts); err != nil || step.Unsure > 0.05 {
			t.Errorf("%s: %+v, %v", c.Run.ID, step, err)
		}
	}
}

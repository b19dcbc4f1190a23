package gauge

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/model"
)

func tiny(t *testing.T) Options {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	set, err := kernel.New("")
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Model: cfg, Optimizer: engine.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, ClipNorm: 1},
		BatchSequences: 2, SequenceTokens: 8, Threads: 2, Kernel: set, Tokens: 65, Seed: 1,
	}
}

// The parts of a step add up to the whole, whatever the machine does meanwhile.
func TestPartsAddUp(t *testing.T) {
	told := 0
	o := tiny(t)
	o.Progress = func(p Progress) {
		told++
		if p.Steps < 1 || p.Tokens != int64(p.Steps)*16 || p.TokensPerSecond <= 0 || p.Seconds <= 0 {
			t.Errorf("progress is %+v", p)
		}
	}
	r, err := Engine(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps != 5 || told < 1 {
		t.Errorf("%d steps of 16 tokens for 65 tokens, told %d times", r.Steps, told)
	}
	sum := 0.0
	for _, name := range PartNames() {
		x, ok := r.StepSeconds[name]
		if !ok || x < 0 || math.IsNaN(x) {
			t.Errorf("%s is %v", name, x)
		}
		if name != totalPart {
			sum += x
		}
	}
	if total := r.StepSeconds[totalPart]; math.Abs(sum-total) > 1e-9*total && r.StepSeconds["waiting"] > 0 {
		t.Errorf("the parts are %v together, the step is %v", sum, total)
	}
	if len(r.StepSeconds) != len(PartNames()) {
		t.Errorf("keys are %v", r.StepSeconds)
	}
	f := o.Model.FLOPs(8)
	if want := 16 * (f.Forward + f.Backward); r.StepFLOPs != want || math.Abs(r.GFLOPS-want*5/r.Seconds/1e9) > 1e-9*r.GFLOPS {
		t.Errorf("%v FLOPs a step, %v GFLOP/s; want %v", r.StepFLOPs, r.GFLOPS, want)
	}
	if r.SGEMMGFLOPS <= 0 || r.ShareOfSGEMM != r.GFLOPS/r.SGEMMGFLOPS || r.TokensPerSecond != 80/r.Seconds {
		t.Errorf("report is %+v", r)
	}
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	o := tiny(t)
	o.Tokens = 1 << 40
	o.Progress = func(Progress) { cancel() }
	if _, err := Engine(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

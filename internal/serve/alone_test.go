package serve_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// curve is what a lone island did: loss and rate bits by step, and the final weights.
type curve struct {
	loss, rate map[uint64]uint64
	weights    []float32
}

func newCurve() curve { return curve{loss: map[uint64]uint64{}, rate: map[uint64]uint64{}} }

// add takes the steps of a run; a step that was made again after a resume must be
// the same one.
func (k curve) add(t testing.TB, c *trial) {
	t.Helper()
	for _, s := range recorded[ledger.StepDone](c) {
		loss, again := k.loss[s.Step]
		if again && loss != math.Float64bits(s.Loss) {
			t.Errorf("step %d made again: loss %v instead of %v", s.Step, s.Loss, math.Float64frombits(loss))
		}
		k.loss[s.Step], k.rate[s.Step] = math.Float64bits(s.Loss), math.Float64bits(s.Rate)
	}
}

func (k curve) equal(t testing.TB, want curve) {
	t.Helper()
	if len(k.loss) != len(want.loss) {
		t.Errorf("%d steps, %d were to be", len(k.loss), len(want.loss))
	}
	for step := range uint64(len(want.loss)) {
		step++
		if k.loss[step] != want.loss[step] || k.rate[step] != want.rate[step] {
			t.Fatalf("first difference at step %d: loss %v, want %v; rate %v, want %v", step,
				math.Float64frombits(k.loss[step]), math.Float64frombits(want.loss[step]),
				math.Float64frombits(k.rate[step]), math.Float64frombits(want.rate[step]))
		}
	}
	sameBits(t, "final weights", k.weights, want.weights)
}

func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// saved reads a part of the newest checkpoint.
func saved(t testing.TB, dir, part string, run runfile.Run) []float32 {
	t.Helper()
	return partOf(t, newestCheckpoint(t, dir), part, run)
}

// partOf reads a part of a checkpoint.
func partOf(t testing.TB, c store.Checkpoint, part string, run runfile.Run) []float32 {
	t.Helper()
	f, err := c.Tensors(context.Background(), part)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flat := make([]float32, run.Size())
	for _, tensor := range run.Table() {
		if err := f.ReadF32(tensor.Name, flat[tensor.Offset:tensor.Offset+tensor.Size()]); err != nil {
			t.Fatal(err)
		}
	}
	return flat
}

// straight is the run without a stop.
func straight(t testing.TB, run runfile.Run) (curve, string) {
	t.Helper()
	dir := folder(t)
	c := begin(t, dir, run, false, nil)
	c.finish()
	k := newCurve()
	k.add(t, c)
	k.weights = saved(t, dir, "model.safetensors", run)
	return k, dir
}

// plain is the same learner without any exchange.
func plain(t testing.TB, run runfile.Run, dataDir string) curve {
	t.Helper()
	data, err := corpus.Open(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	l, err := island.NewLearner(run, data, 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	engine.InitParams(run.Model.Config, run.Seed, l.Params())
	l.Lease(0, run.TotalSamples())
	k := newCurve()
	for step := uint64(1); l.Left() > 0; step++ {
		s, err := l.Step()
		if err != nil {
			t.Fatal(err)
		}
		k.loss[step], k.rate[step] = math.Float64bits(s.Loss), math.Float64bits(s.Rate)
	}
	k.weights = append([]float32(nil), l.Params()...)
	return k
}

// withState gives the model tensors that no gradient moves: router bias and statistics.
func withState(run *runfile.Run) {
	run.Model.RouterBias, run.Model.BiasRate = true, 0.01
	run.Model.RoutingWarmupTokens, run.Model.RoutingWarmupWindow = 4000, 20
}

// D5 of the design: a run with one island is the plain run. Losses, rates and final
// weights are the same to the bit as those of the learner alone.
func TestOneIslandIsThePlainRun(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*runfile.Run){
		"default":      nil,
		"accumulation": func(run *runfile.Run) { run.Train.Accumulate = 2 },
		"overlap":      func(run *runfile.Run) { run.Exchange.OverlapSteps = 3 },
		"no overlap":   func(run *runfile.Run) { run.Exchange.OverlapSteps = 0 },
		"one fragment": func(run *runfile.Run) { run.Exchange.Fragments = 1 },
		"state":        withState,
		"text runs on": func(run *runfile.Run) { run.Train.DocumentBoundaries = false },
		"two threads":  func(run *runfile.Run) { run.Islands[0].Threads = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := alone(t, func(run *runfile.Run) {
				run.Tokens = stepTokens * 100
				if change != nil {
					change(run)
				}
			})
			got, dir := straight(t, run)
			got.equal(t, plain(t, run, filepath.Join(dir, "data")))
		})
	}
}

// B6 (CASES: 20 steps straight against 10, save, hard kill, resume to 20): here an
// interrupt at about half of 200 steps, twice, and a resume, with one island. Losses
// and final weights, a router's state among them, are the bits of the run without a stop.
func TestB6InterruptAndResume(t *testing.T) {
	t.Parallel()
	run := alone(t, withState)
	want, _ := straight(t, run)
	dir, got := folder(t), newCurve()
	for i, stop := range []uint64{60, 120} {
		c := begin(t, dir, run, i > 0, func(c *trial, e ledger.Event) {
			if s, ok := e.(ledger.StepDone); ok && s.Step == stop {
				c.interruptNow()
			}
		})
		sum, err := c.wait()
		if !errors.Is(err, serve.ErrInterrupted) || sum.Outcome != ledger.RunInterrupted {
			t.Fatalf("%v, %+v", err, sum)
		}
		if sum.Checkpoint == nil {
			t.Fatal("it was not saved")
		}
		got.add(t, c)
		if sum.Tokens != int64(len(got.loss))*stepTokens {
			t.Errorf("%d tokens are in the model after %d steps: it was not flushed", sum.Tokens, len(got.loss))
		}
		audited(t, dir, sum.Tokens/32)
	}
	c := begin(t, dir, run, true, nil)
	sum := c.finish()
	got.add(t, c)
	got.weights = saved(t, dir, "model.safetensors", run)
	got.equal(t, want)
	if start := recorded[ledger.RunStarted](c)[0]; start.TokensDone < 120*stepTokens || start.Era != 3 || !start.Resumed {
		t.Errorf("the resumed run begins with %+v", start)
	}
	if sum.Islands[0].Steps > 200-120 {
		t.Errorf("%d steps after the resume: some were made twice", sum.Islands[0].Steps)
	}
}

// A2 (CASES: a round with 0 inner steps, and one with learning rate 0, outer momentum
// 0: every pseudo-gradient exactly 0): here two islands with a rate at which no fp32
// weight moves (a run file does not allow 0); the model is the initial one, bit for
// bit, and the momentum is 0. Rounds with 0 steps are in package island.
func TestA2LearningRateZero(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Train.PeakRate, run.Train.FinalRate = 1e-300, 0
		run.Tokens = stepTokens * 60
	})
	dir := folder(t)
	sum := begin(t, dir, run, false, nil).finish()
	if sum.Merges == 0 {
		t.Fatal("nothing was merged")
	}
	want := make([]float32, run.Model.Size())
	engine.InitParams(run.Model.Config, run.Seed, want)
	sameBits(t, "weights", saved(t, dir, "model.safetensors", run), want)
	sameBits(t, "momentum", saved(t, dir, "momentum.safetensors", run), make([]float32, len(want)))
}

package serve_test

import (
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// tensorsOf are those that a trainer of the run's model has.
func tensorsOf(run runfile.Run) (out []attachtest.Tensor) {
	for _, t := range run.Table() {
		out = append(out, attachtest.Tensor{Name: t.Name, Shape: t.Shape, State: t.Kind == "state"})
	}
	return out
}

// outsider makes the last island of a run an external one, and no gate asks for what the
// model of the test trainer does not have.
func outsider(change func(*runfile.Run)) func(*runfile.Run) {
	return func(run *runfile.Run) {
		run.Gate = runfile.GateOff
		if change != nil {
			change(run)
		}
		run.Islands[len(run.Islands)-1].Engine = runfile.External
	}
}

var socketNote = regexp.MustCompile(`MISTURA_SOCKET=(\S+)`)

// outside trains every incarnation of a run's external island until the run is over.
type outside struct {
	run    runfile.Run
	world  int
	layout attachtest.Layout
	resume bool
	slots  bool                                                          // its optimizer has moments
	probe  bool                                                          // it can answer at the gate
	answer func(r *attachtest.Rank) *attach.Gated                        // what it says of a probe; nil: as any other
	begin  func(life int, t *attachtest.Trainer) func(step uint64) error // called before each life; gives what is called before each step

	sockets chan string
	ends    []error // of each life
	done    chan struct{}
}

// trainOutside starts a run whose external island is trained by o.
func trainOutside(t testing.TB, dir string, o *outside, change ...func(*serve.Options)) *trial {
	t.Helper()
	o.sockets, o.done = make(chan string, 16), make(chan struct{})
	c := begin(t, dir, o.run, o.resume, func(_ *trial, e ledger.Event) {
		if note, ok := e.(ledger.Note); ok {
			if m := socketNote.FindStringSubmatch(note.Text); m != nil {
				o.sockets <- m[1]
			}
		}
	}, change...)
	go o.train(c)
	t.Cleanup(func() { <-o.done })
	return c
}

func (o *outside) train(c *trial) {
	defer close(o.done)
	for {
		select {
		case path := <-o.sockets:
			if listens(path, c.done) {
				o.ends = append(o.ends, o.live(path, len(o.ends)+1))
			}
		case <-c.done:
			return
		}
	}
}

// listens waits until somebody listens at a socket, or the run is over: an incarnation that died
// at its start has told of its socket too, and the next one has its trainer.
func listens(path string, over <-chan struct{}) bool {
	for {
		conn, err := attachtest.Open(path, time.Second)
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-over:
			return false
		default:
		}
	}
}

func (o *outside) live(path string, life int) error {
	hellos := attachtest.Hellos(tensorsOf(o.run), o.world, o.layout)
	if o.slots {
		hellos = attachtest.Keeping(hellos)
	}
	for i := range hellos {
		hellos[i].Probe = o.probe
	}
	t, err := attachtest.Join(path, patience, hellos...)
	if err != nil {
		return err
	}
	defer t.Close()
	for _, r := range t.Ranks {
		r.Answer = o.answer
	}
	t.Tokens = int64(o.run.Train.SequenceTokens)
	var before func(uint64) error
	if o.begin != nil {
		before = o.begin(life, t)
	}
	return t.Run(before)
}

// ended waits for the trainers and reports those that did not end in order.
func (o *outside) ended(t testing.TB) {
	t.Helper()
	within(t, "the end of the trainer", o.done)
	for life, err := range o.ends {
		if err != nil {
			t.Errorf("life %d: %v", life+1, err)
		}
	}
}

// plainOutside is the test trainer's loop alone.
func plainOutside(run runfile.Run) curve {
	params := make([]float32, run.Size())
	engine.InitParams(run.Model.Config, run.Seed, params)
	return plainFrom(run, params)
}

// plainFrom is that loop from other weights on.
func plainFrom(run runfile.Run, params []float32) curve {
	k := newCurve()
	hello := attachtest.Hellos(tensorsOf(run), 1, attachtest.Replicated)[0]
	schedule := island.ScheduleOf(run)
	for at := int64(0); at < run.TotalSamples(); at += run.StepSamples() {
		step := uint64(at/run.StepSamples() + 1)
		rate := schedule.Rate(int64(step) * run.StepTokens())
		var loss float64
		for i, t := range run.Table() {
			loss += attachtest.Loss(hello.Pieces[i], params[t.Offset:t.Offset+t.Size()], uint64(at))
		}
		for i, t := range run.Table() {
			attachtest.Step(hello.Pieces[i], params[t.Offset:t.Offset+t.Size()], uint64(at), rate)
		}
		k.loss[step], k.rate[step] = math.Float64bits(loss), math.Float64bits(rate)
	}
	k.weights = params
	return k
}

// D5 for a trainer of the user's: alone it makes the same losses, rates and weights, to
// the bit, as the same loop without mistura, whatever its layout.
func TestD5ExternalIsland(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		world  int
		layout attachtest.Layout
	}{
		"one rank": {1, attachtest.Replicated}, "two ranks, replicated": {2, attachtest.Replicated}, "two ranks, rows": {2, attachtest.Rows},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
			dir := folder(t)
			o := &outside{run: run, world: c.world, layout: c.layout}
			trial := trainOutside(t, dir, o)
			trial.finish()
			o.ended(t)
			got := newCurve()
			got.add(t, trial)
			got.weights = saved(t, dir, "model.safetensors", run)
			got.equal(t, plainOutside(run))
		})
	}
}

// A trainer of the user's beside a native island: both contribute, every sample counts
// once, and the run ends with all of them in the model.
func TestExternalBesideNative(t *testing.T) {
	t.Parallel()
	run := tiny(t, outsider(nil))
	o := &outside{run: run, world: 2, layout: attachtest.Rows, begin: func(int, *attachtest.Trainer) func(uint64) error {
		return func(uint64) error { time.Sleep(time.Millisecond); return nil } // not so fast that nothing is left for its neighbour
	}}
	sum := trainOutside(t, folder(t), o).finish()
	o.ended(t)
	for _, i := range sum.Islands {
		if i.Steps == 0 {
			t.Errorf("%+v", i)
		}
	}
	if own, other := sum.Islands[0].Numeric, sum.Islands[1].Numeric; own == nil || *own != "fp32" || other != nil { // nobody asked it
		t.Errorf("they compute in %v and %v", own, other)
	}
}

// Danger: a rank is killed. Its island ends at once with a reason that names it, the
// coordinator hears of it, and a new incarnation trains what was not in the model.
func TestRankIsKilled(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
	o := &outside{run: run, world: 2, layout: attachtest.Rows, begin: func(life int, trainer *attachtest.Trainer) func(uint64) error {
		return func(step uint64) error {
			if life == 1 && step == 25 {
				trainer.Ranks[1].Close()
			}
			return nil
		}
	}}
	c := trainOutside(t, folder(t), o)
	c.finish()
	within(t, "the end of the trainer", o.done)
	if len(o.ends) != 2 || o.ends[0] == nil || o.ends[1] != nil {
		t.Fatalf("the trainers ended with %v", o.ends)
	}
	var lost *attachtest.Refusal
	if !errors.As(o.ends[0], &lost) || !strings.Contains(lost.Problem, "rank 1") {
		t.Errorf("the other rank hears %v", o.ends[0])
	}
	gone := recorded[ledger.IslandGone](c)
	if len(gone) == 0 || !strings.Contains(gone[0].Reason, "rank 1") || !strings.Contains(gone[0].Reason, "its socket was closed") {
		t.Errorf("the coordinator hears %+v", gone)
	}
}

// A run does not wait for a trainer that nobody starts: the other island ends it.
func TestTrainerThatNeverComes(t *testing.T) {
	t.Parallel()
	run := tiny(t, outsider(func(run *runfile.Run) {
		run.Limits.HeartbeatSeconds, run.Limits.StallSeconds, run.Limits.FirstStepSeconds = 1.5, 1.5, 1.5
	}))
	c := begin(t, folder(t), run, false, nil)
	sum := c.finish()
	if sum.Islands[0].Steps != 200 || sum.Islands[1].Steps != 0 || sum.Islands[1].Restarts != 0 {
		t.Errorf("%+v", sum.Islands)
	}
}

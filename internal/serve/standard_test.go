package serve_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

// standards are the checkpoints that are there; each has to hold the record of its own weights.
func standards(t *testing.T, dir string, run runfile.Run) (numbers []uint64) {
	t.Helper()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	newest, _, err := store.Newest(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	for number := uint64(1); number <= newest.Number(); number++ {
		c, err := store.Load(t.Context(), st, number)
		if err != nil {
			continue // pruned
		}
		isOf(t, filepath.Join(dir, filepath.FromSlash(store.PartName(number, "gate.json"))), run, partOf(t, c, "model.safetensors", run))
		numbers = append(numbers, number)
	}
	return numbers
}

// Case D5 at the gate: an island of a model that only its trainer knows makes the record of
// every checkpoint, with the checkpoint's weights, and trains as if nobody had asked: the same
// losses, rates and weights, to the bit, whatever its layout.
func TestD5CheckpointRecords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		world  int
		layout attachtest.Layout
	}{
		"one rank": {1, attachtest.Replicated}, "two ranks, rows": {2, attachtest.Rows}, "two hosts, replicated": {0, attachtest.Replicated}, "two hosts, stages": {0, stages},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, weights := strangers(t)
			run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*10, 100
			var trial *trial
			if c.world == 0 {
				var paths chan string
				trial, paths = sockets(t, run)
				if err := twoHosts(t, trial, run, c.layout, <-paths, 1, nil); err != nil {
					t.Fatal(err)
				}
				trial.finish()
			} else {
				o := &outside{run: run, world: c.world, layout: c.layout, probe: true}
				trial = trainOutside(t, folder(t), o)
				trial.finish()
				o.ended(t)
			}
			got := newCurve()
			got.add(t, trial)
			got.weights = saved(t, trial.dir, "model.safetensors", run)
			got.equal(t, plainFrom(run, weights))
			if n := standards(t, trial.dir, run); len(n) < 2 {
				t.Errorf("checkpoints %v", n)
			}
		})
	}
}

// late is a run of two islands, the second of which comes once the first checkpoint is there,
// answers at the gate, and may be let in. The first one trains slowly until then.
func late(t *testing.T, second func(r *attachtest.Rank) *attach.Gated) (*trial, *fleet) {
	checkpoint, decided := make(chan struct{}), make(chan struct{})
	var one, two sync.Once
	f := &fleet{}
	f.trainer = func(island string, life int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
		hellos := ownHellos(island == "a")
		for i := range hellos {
			hellos[i].Probe = true
		}
		if island == "b" {
			<-checkpoint
			return hellos, nil
		}
		return hellos, func(*attachtest.Trainer) func(uint64) error {
			return func(step uint64) error {
				select {
				case <-decided:
				default:
					time.Sleep(time.Millisecond) // the run is not to be over before the second has come
				}
				return nil
			}
		}
	}
	f.answer = func(island string) func(*attachtest.Rank) *attach.Gated {
		if island == "b" {
			return second
		}
		return nil
	}
	run := own(t, func(run *runfile.Run) { run.Tokens, run.Checkpoint.EveryTokens = 96*3000, 96*20 })
	c := trainFleet(t, folder(t), run, false, f, func(_ *trial, e ledger.Event) {
		switch e := e.(type) {
		case ledger.CheckpointSaved:
			one.Do(func() { close(checkpoint) })
		case ledger.Gated:
			if e.Island == "b" {
				two.Do(func() { close(decided) })
			}
		}
	})
	return c, f
}

// An island that comes later is compared on the newest checkpoint's weights, with what another
// island made of them: it passes, or the first tensor outside is named to it.
func TestLaterIslandIsComparedOnTheCheckpoint(t *testing.T) {
	t.Parallel()
	wrong := func(r *attachtest.Rank) *attach.Gated {
		for i, p := range r.Hello.Pieces {
			g := r.Out(i)
			attachtest.Gradient(p, g, r.Weights[i])
			for k := range g {
				if p.Name == "conv" {
					g[k] = -g[k]
				}
			}
		}
		return &attach.Gated{Loss: 1, NumberFormat: "fp32"}
	}
	for name, answer := range map[string]func(*attachtest.Rank) *attach.Gated{"passed": nil, "refused": wrong} {
		t.Run(name, func(t *testing.T) {
			c, f := late(t, answer)
			sum, err := c.wait()
			if err != nil || sum.Outcome != ledger.RunFinished {
				t.Fatal(sum.Reason, err)
			}
			f.wg.Wait()
			if n := sum.Islands[0].Numeric; n == nil || *n != "fp32" {
				t.Errorf("who made the record computes in %v", n)
			}
			records := gates(t, c.dir)
			if len(records) < 2 || records[0].Outcome != coord.GateRecorded || records[0].Checkpoint != 0 {
				t.Fatalf("%+v", records)
			}
			b := records[1]
			if string(b.Outcome) != name || b.Island != "b" || b.Checkpoint == 0 || b.Verdict == nil {
				t.Errorf("%+v", b)
			}
			if answer != nil && (b.Verdict == nil || b.Verdict.First == nil || b.Verdict.First.Name != "conv") {
				t.Errorf("%+v", b.Verdict)
			}
			var refusal *attachtest.Refusal
			said := slices.ContainsFunc(f.ends, func(err error) bool {
				return errors.As(err, &refusal) && strings.Contains(refusal.Problem, "tensor conv is off")
			})
			if said != (answer != nil) {
				t.Errorf("the trainers ended with %v", f.ends)
			}
		})
	}
}

// Danger: the island that is to make a checkpoint's record cannot, answers with nonsense or not
// at all, and checkpoints stop. Each is written, without a record; it is said why; and training
// goes on with the same weights.
func TestCheckpointsWithoutRecord(t *testing.T) {
	t.Parallel()
	for says, answer := range map[string]*attach.Gated{
		"it cannot answer: out of memory": {Loss: 1, Problem: "out of memory"},
		"the loss is NaN":                 {Loss: attach.Number(math.NaN())},
		"it did not answer within 4s (limits.first_step_seconds) and is not asked again": nil,
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			run, weights := strangers(t)
			run.Checkpoint.EveryTokens = stepTokens * 20
			run.Limits.FirstStepSeconds, run.Limits.StallSeconds, run.Limits.HeartbeatSeconds = 4, 4, 4
			asked := 0
			o := &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true, answer: func(r *attachtest.Rank) *attach.Gated {
				if asked++; asked == 1 {
					return attachtest.Honest(r)
				}
				return answer
			}}
			c := trainOutside(t, folder(t), o)
			c.finish()
			o.ended(t)
			if said := notes(c); !strings.Contains(said, says) || !strings.Contains(said, "checkpoint 1 has no gate record") || strings.Contains(said, "checkpoint 2 has no gate record") {
				t.Errorf("it is said:\n%s", said)
			}
			if asked != 2 {
				t.Errorf("asked %d times", asked)
			}
			got := newCurve()
			got.add(t, c)
			got.weights = saved(t, c.dir, "model.safetensors", run)
			got.equal(t, plainFrom(run, weights))
		})
	}
}

// Danger: the stream of the island that is asked for a checkpoint's record breaks, with the question
// or the answer on it, and the checkpoint is held for as long as a first step may take; or the
// answer, which comes late, passes for the next checkpoint's. It is written at once, without a
// record; the next one has its own.
func TestStreamBreaksAtACheckpointsQuestion(t *testing.T) {
	t.Parallel()
	run, weights := strangers(t)
	run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*20, 100
	began := make(chan *trial, 1)
	asked := 0
	o := &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true, answer: func(r *attachtest.Rank) *attach.Gated {
		if asked++; asked == 2 {
			c := <-began
			c.signal("only", 1, unix.SIGUSR1)
			c.until(func(e ledger.Event) bool { _, saved := e.(ledger.CheckpointSaved); return saved })
		}
		return attachtest.Honest(r)
	}}
	c := trainOutside(t, folder(t), o, faking("only-1="+actFragile))
	began <- c
	c.finish()
	o.ended(t)
	if says := "checkpoint 1 has no gate record, islands that join are compared with the one before: island only: its stream broke before it had answered"; !strings.Contains(notes(c), says) {
		t.Errorf("it is said:\n%s", notes(c))
	}
	for number, want := range map[uint64]bool{1: false, 2: true} {
		path := filepath.Join(c.dir, filepath.FromSlash(store.PartName(number, "gate.json")))
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("the record of checkpoint %d: %v", number, err)
		}
	}
	got := newCurve()
	got.add(t, c)
	got.weights = saved(t, c.dir, "model.safetensors", run)
	got.equal(t, plainFrom(run, weights))
}

// When the island that is asked for a checkpoint's record cannot give it, the next one is asked.
func TestAnotherIslandMakesTheRecord(t *testing.T) {
	t.Parallel()
	began, other := make(chan *trial, 1), make(chan struct{})
	f := plainFleet()
	plain := f.trainer
	f.trainer = func(island string, life int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
		hellos, before := plain(island, life)
		for i := range hellos {
			hellos[i].Probe = true
		}
		return hellos, before
	}
	f.answer = func(island string) func(*attachtest.Rank) *attach.Gated {
		asked := map[int]int{} // by rank
		var mu sync.Mutex
		return func(r *attachtest.Rank) *attach.Gated {
			mu.Lock()
			asked[r.Hello.Rank]++
			first := r.Hello.Control() && asked[r.Hello.Rank] == 2 // behind the door
			mu.Unlock()
			switch {
			case first && island == "a":
				c := <-began
				c.signal("a", 1, unix.SIGUSR1)
				select {
				case <-other:
				case <-c.done:
				}
			case first:
				close(other)
			}
			return attachtest.Honest(r)
		}
	}
	run := own(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens, run.Checkpoint.Keep = 96*40, 100 })
	c := trainFleet(t, folder(t), run, false, f, nil, faking("a-1="+actFragile))
	began <- c
	if sum, err := c.wait(); err != nil || sum.Outcome != ledger.RunFinished {
		t.Fatal(sum.Reason, err)
	}
	f.orderly(t)
	if said := notes(c); strings.Contains(said, "checkpoint 1 has no gate record") {
		t.Errorf("it is said:\n%s", said)
	}
	record, err := gate.Decode([]byte(read(t, filepath.Join(c.dir, filepath.FromSlash(store.PartName(1, "gate.json"))))))
	if err != nil || !strings.HasSuffix(record.Maker, "1 ranks") { // a has two
		t.Errorf("made by %q, %v", record.Maker, err)
	}
}

package serve_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// stopAt interrupts the run before a step of the external trainer's first life.
func (o *outside) stopAt(t *testing.T, dir string, step uint64) {
	t.Helper()
	var c *trial
	ready := make(chan struct{})
	inner := o.begin
	o.begin = func(life int, trainer *attachtest.Trainer) func(uint64) error {
		var before func(uint64) error
		if inner != nil {
			before = inner(life, trainer)
		}
		return func(n uint64) error {
			if n == step {
				<-ready
				c.interruptNow()
			}
			if before != nil {
				return before(n)
			}
			return nil
		}
	}
	c = trainOutside(t, dir, o)
	close(ready)
	if sum, err := c.wait(); !errors.Is(err, serve.ErrInterrupted) || sum.Checkpoint == nil {
		t.Fatalf("%v: %+v", err, sum)
	}
	o.ended(t)
}

// restoredAsSaved checks that the last era restored every slot that its checkpoint has with
// the digest that it has there.
func restoredAsSaved(t *testing.T, dir, island string, meta serve.Meta, slots int) {
	t.Helper()
	got, saved := restoredRecords(t, dir, len(tapes(t, dir)))[island], meta.Islands[island].Slots
	if len(saved) != slots || len(got) != slots {
		t.Fatalf("saved %v, restored %v, want %d slots", saved, got, slots)
	}
	for _, s := range saved {
		if got[s.Slot] != s.Digest {
			t.Errorf("%s restored with %s, saved with %s", s.Slot, got[s.Slot], s.Digest)
		}
	}
}

// Case D10: save on 4 ranks, load on 6 and on 2. Gathered weights and moments have equal
// digests, and training goes on as if nothing had been moved.
func TestD10OtherNumberOfRanks(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
	straight := &outside{run: run, world: 4, layout: attachtest.Rows, slots: true}
	unbroken := trainOutside(t, folder(t), straight)
	unbroken.finish()
	straight.ended(t)
	want := newCurve()
	want.add(t, unbroken)
	for world, layout := range map[int]attachtest.Layout{6: attachtest.Rows, 2: attachtest.Rows, 3: attachtest.Replicated} {
		t.Run(fmt.Sprintf("4 to %d", world), func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			first := &outside{run: run, world: 4, layout: attachtest.Rows, slots: true}
			first.stopAt(t, dir, 25)
			meta := newestMeta(t, dir)
			var steps uint64
			second := &outside{run: run, world: world, layout: layout, slots: true, resume: true, begin: func(_ int, trainer *attachtest.Trainer) func(uint64) error {
				return func(n uint64) error {
					if n == 1 {
						steps = trainer.Ranks[0].State.Steps
					}
					return nil
				}
			}}
			c := trainOutside(t, dir, second)
			c.finish()
			second.ended(t)
			restoredAsSaved(t, dir, "only", meta, 3)
			if said := fmt.Sprintf("external on test, 4 ranks → external on test, %d ranks; gathered anew", world); !strings.Contains(notes(c), said) {
				t.Errorf("nothing says %q in\n%s", said, notes(c))
			}
			got := newCurve()
			got.add(t, c)
			if len(got.loss) == 0 || steps == 0 {
				t.Errorf("%d steps were made, %d by the optimizer before", len(got.loss), steps)
			}
			for step, loss := range got.loss {
				if loss != want.loss[step] || got.rate[step] != want.rate[step] {
					t.Fatalf("step %d has another loss or rate than in the unbroken run", step)
				}
			}
		})
	}
}

// From the native engine's state to a trainer of the user's and back.
func TestNativeToExternalAndBack(t *testing.T) {
	t.Parallel()
	paths := []string{text(t)}
	native := alone(t, func(run *runfile.Run) { run.Data.Paths, run.Gate = paths, runfile.GateOff })
	external := alone(t, outsider(func(run *runfile.Run) { run.Data.Paths = paths }))
	dir, _ := stopped(t, native, 40)
	meta := newestMeta(t, dir)
	o := &outside{run: external, world: 3, layout: attachtest.Rows, slots: true, resume: true}
	o.stopAt(t, dir, 30)
	restoredAsSaved(t, dir, "only", meta, 3)
	meta = newestMeta(t, dir)
	c := begin(t, dir, native, true, nil)
	c.finish()
	restoredAsSaved(t, dir, "only", meta, 3)
	if want := "layout: only: external on test, 3 ranks → only: native\n"; !strings.Contains(notes(c), want) {
		t.Errorf("nothing says %q in\n%s", want, notes(c))
	}
}

// D16: what of a state is not taken over as it was saved is said, a line each, and stays in the
// run's record.
func TestD16RemarksStayOnTheTape(t *testing.T) {
	t.Parallel()
	paths := []string{text(t)}
	dir, _ := stopped(t, alone(t, func(run *runfile.Run) { run.Data.Paths, run.Gate = paths, runfile.GateOff }), 40)
	o := &outside{run: alone(t, outsider(func(run *runfile.Run) { run.Data.Paths = paths })), world: 1, layout: attachtest.Replicated, resume: true}
	c := trainOutside(t, dir, o)
	c.finish()
	o.ended(t)
	var record strings.Builder
	for _, raw := range tapes(t, dir)[1].Coordinator {
		record.Write(raw)
	}
	for _, want := range []string{"moment1 of the state are not used: the trainer keeps none", "moment2 of the state are not used: the trainer keeps none"} {
		if !strings.Contains(notes(c), "island only: "+want+"\n") || !strings.Contains(record.String(), `"`+want+`"`) {
			t.Errorf("%q is not said, or not on the tape:\n%s", want, notes(c))
		}
	}
}

// A trainer that does not hold what it has loaded is told which tensor, and does not train.
func TestRestoredOtherwiseIsRefused(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens, run.Limits.Restarts = stepTokens*60, 0 }))
	dir := folder(t)
	first := &outside{run: run, world: 2, layout: attachtest.Rows, slots: true}
	first.stopAt(t, dir, 20)
	second := &outside{run: run, world: 3, layout: attachtest.Rows, slots: true, resume: true, begin: func(_ int, trainer *attachtest.Trainer) func(uint64) error {
		trainer.Ranks[1].State.Bend = func(slot string, piece int, values []float32) {
			if slot == "moment2" && piece == 0 {
				values[len(values)-1]++
			}
		}
		return nil
	}}
	c := trainOutside(t, dir, second)
	if _, err := c.wait(); err == nil {
		t.Error("the run went on")
	}
	within(t, "the end of the trainer", second.done)
	var refused *attachtest.Refusal
	if len(second.ends) == 0 || !errors.As(second.ends[0], &refused) || refused.Value != "moment2."+run.Table()[0].Name || refused.Where != "rank 1" {
		t.Errorf("the trainer hears %v", second.ends)
	}
}

// A trainer whose optimizer has no value for each weight saves itself: path and digest stand
// in the manifest, a resume gives the paths back, wherever the run folder is by now, and
// refuses a file that is altered or missing.
func TestTrainerSavesItself(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens, run.Limits.Restarts = stepTokens*60, 0 }))
	dir := folder(t)
	first := &outside{run: run, world: 2, layout: attachtest.Rows, begin: func(_ int, trainer *attachtest.Trainer) func(uint64) error {
		for _, r := range trainer.Ranks {
			r.State.Own = fmt.Sprintf("optimizer of rank %d", r.Hello.Rank)
		}
		return nil
	}}
	first.stopAt(t, dir, 20)
	files := newestMeta(t, dir).Islands["only"].Files
	moved := folder(t)
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	dir = moved
	if len(files) != 2 || files[1].Rank != 1 || read(t, filepath.Join(dir, files[1].Path)) != "optimizer of rank 1" {
		t.Fatalf("the manifest has %+v", files)
	}
	altered := filepath.Join(dir, files[0].Path)
	good := read(t, altered)
	if err := os.WriteFile(altered, []byte("optimizer of rank 7"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := func() (*outside, *trial) {
		o := &outside{run: run, world: 3, layout: attachtest.Rows, resume: true, begin: func(_ int, trainer *attachtest.Trainer) func(uint64) error {
			return func(uint64) error {
				for _, r := range trainer.Ranks {
					if len(r.State.Files) != 2 || r.State.Files[0].Path != altered {
						return fmt.Errorf("rank %d was given %v", r.Hello.Rank, r.State.Files)
					}
				}
				return nil
			}
		}}
		return o, trainOutside(t, dir, o)
	}
	refused := func(problem string) {
		t.Helper()
		o, c := again()
		var in *fault.Input
		if _, err := c.wait(); !errors.As(err, &in) || in.Value != altered || !strings.Contains(in.Problem, problem) {
			t.Errorf("%v, want %s", err, problem)
		}
		within(t, "the end of the trainer", o.done)
	}
	refused("has SHA-256")
	if err := os.Remove(altered); err != nil {
		t.Fatal(err)
	}
	refused("cannot be read (no such file or directory)") // B9: one rank has nothing to go on from
	if err := os.WriteFile(altered, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	o, c := again()
	c.finish()
	o.ended(t)
}

// An island on two hosts is saved by both; it goes on there, and on one host, as if nothing
// had been moved.
func TestStateOfTwoHosts(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
	onTwo := func(layout attachtest.Layout) func(t *testing.T, dir string) *trial {
		return func(t *testing.T, dir string) *trial {
			c, paths := socketsIn(t, dir, run, true)
			if err := twoHosts(t, c, run, layout, <-paths, 2, nil); err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	for name, c := range map[string]struct {
		layout attachtest.Layout
		again  func(t *testing.T, dir string) *trial
	}{
		"two hosts again": {stages, onTwo(stages)},
		"one host": {stages, func(t *testing.T, dir string) *trial {
			o := &outside{run: run, world: 2, layout: attachtest.Rows, slots: true, resume: true}
			return trainOutside(t, dir, o)
		}},
		"replicas, then shards": {attachtest.Replicated, onTwo(stages)}, // as with DDP: both hosts hold everything
		"replicas again":        {attachtest.Replicated, onTwo(attachtest.Replicated)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			r, paths := socketsIn(t, dir, run, false)
			err := twoHosts(t, r, run, c.layout, <-paths, 1, func(*attachtest.Trainer) func(uint64) error {
				return func(step uint64) error {
					if step == 25 {
						r.interruptNow()
					}
					return nil
				}
			})
			if _, ended := r.wait(); err != nil || !errors.Is(ended, serve.ErrInterrupted) {
				t.Fatal(err, ended)
			}
			if hosts := newestMeta(t, dir).Islands["only"].Hosts; len(hosts) != 1 || hosts[0].Host != 1 || hosts[0].SizeBytes == 0 {
				t.Fatalf("the manifest has the hosts %+v", hosts)
			}
			meta := newestMeta(t, dir)
			r = c.again(t, dir)
			r.finish()
			restoredAsSaved(t, dir, "only", meta, 3)
			got, want := newCurve(), plainOutside(run)
			got.add(t, r)
			for step, loss := range got.loss {
				if loss != want.loss[step] {
					t.Fatalf("step %d has another loss than in the plain loop", step)
				}
			}
			if len(got.loss) == 0 {
				t.Error("no step was made")
			}
		})
	}
}

// What trainers save on hosts of their own is compared there: the first host of an island, and
// the coordinator, which has the run folder only, cannot know it.
func TestFilesOfAnotherHost(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens, run.Limits.Restarts = stepTokens*60, 1 }))
	dir, spare := folder(t), t.TempDir()
	c, paths := socketsIn(t, dir, run, false)
	err := twoHosts(t, c, run, stages, <-paths, 1, func(trainer *attachtest.Trainer) func(uint64) error {
		for _, r := range trainer.Ranks {
			r.State.Own, r.State.Spare = "of its own", filepath.Join(spare, fmt.Sprint(r.Hello.Rank))
		}
		return func(step uint64) error {
			if step == 25 {
				c.interruptNow()
			}
			return nil
		}
	})
	if _, ended := c.wait(); err != nil || !errors.Is(ended, serve.ErrInterrupted) {
		t.Fatal(err, ended)
	}
	files := newestMeta(t, dir).Islands["only"].Files
	if len(files) != 3 || !filepath.IsAbs(files[2].Path) || files[2].Rank != 2 {
		t.Fatalf("the manifest has %+v", files)
	}
	if err := os.WriteFile(files[2].Path, []byte("of another"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, paths = socketsIn(t, dir, run, true)
	if err := twoHosts(t, c, run, stages, <-paths, 2, nil); err == nil || !strings.Contains(err.Error(), "state of rank 2") || !strings.Contains(err.Error(), "has SHA-256") {
		t.Errorf("the second host ends with %v", err)
	}
}

// A state that an incarnation has not taken over goes to the next, to the bit; after three
// the island begins from the model, on the record and in the status. Every sample counts once.
func TestStateIsOfferedAgain(t *testing.T) {
	t.Parallel()
	for name, bent := range map[string]int{"two fail": 2, "three fail": coord.SeedOffers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := alone(t, outsider(func(run *runfile.Run) { run.Tokens, run.Limits.Restarts = stepTokens*60, 1 }))
			dir := folder(t)
			first := &outside{run: run, world: 2, layout: attachtest.Rows, slots: true}
			first.stopAt(t, dir, 25)
			meta := newestMeta(t, dir)
			second := &outside{run: run, world: 3, layout: attachtest.Rows, slots: true, resume: true, begin: func(life int, trainer *attachtest.Trainer) func(uint64) error {
				if life <= bent {
					trainer.Ranks[1].State.Bend = func(slot string, _ int, values []float32) { values[0]++ }
				}
				return nil
			}}
			c := trainOutside(t, dir, second)
			c.finish()
			within(t, "the end of the trainer", second.done)
			if len(second.ends) != bent+1 || second.ends[bent-1] == nil || second.ends[bent] != nil {
				t.Errorf("the trainers ended with %v", second.ends)
			}
			lost := recorded[ledger.NotRestored](c)
			if bent < coord.SeedOffers {
				restoredAsSaved(t, dir, "only", meta, 3)
				if len(lost) != 0 {
					t.Errorf("%v", lost)
				}
				return
			}
			if len(lost) != 1 || lost[0].Offers != bent || !strings.Contains(lost[0].String(), "rank 1") || strings.Contains(lost[0].String(), "\n") {
				t.Errorf("it says %v", lost)
			}
			if !strings.Contains(notes(c), "island only joins with the moments of checkpoints/") {
				t.Errorf("the last one has not even the moments:\n%s", notes(c))
			}
		})
	}
}

// A trainer that is lost in mid-run gets back what it had saved itself with the newest checkpoint,
// as its next incarnation gets its moments back; nobody else gets its files.
func TestTrainerGetsItsFilesBack(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) {
		run.Tokens, run.Checkpoint.EveryTokens = stepTokens*400, stepTokens*20
	}))
	dir := folder(t)
	var c *trial
	ready := make(chan struct{})
	o := &outside{run: run, world: 2, layout: attachtest.Rows, begin: func(life int, trainer *attachtest.Trainer) func(uint64) error {
		for _, r := range trainer.Ranks {
			r.State.Own = fmt.Sprintf("optimizer of rank %d", r.Hello.Rank)
		}
		began := false
		return func(uint64) error {
			<-ready
			first := !began
			began = true
			if life == 1 && len(recorded[ledger.CheckpointSaved](c)) > 0 {
				trainer.Ranks[1].Close()
			}
			if files := trainer.Ranks[0].State.Files; life == 2 && first && (len(files) != 2 || read(t, files[1].Path) != "optimizer of rank 1") {
				return fmt.Errorf("it was given %v", files)
			}
			return nil
		}
	}}
	c = trainOutside(t, dir, o)
	close(ready)
	c.finish()
	within(t, "the end of the trainer", o.done)
	if len(o.ends) != 2 || o.ends[1] != nil {
		t.Errorf("the trainers ended with %v", o.ends)
	}
	if want := "island only joins with what its trainer had saved: files of 2 ranks"; !strings.Contains(notes(c), want) {
		t.Errorf("nothing says %q in\n%s", want, notes(c))
	}
}

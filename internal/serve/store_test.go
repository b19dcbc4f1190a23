package serve_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// faulty gives a run a store whose faults the test sets.
func faulty(at **storetest.Faulty, faults ...storetest.Fault) func(*serve.Options) {
	return func(o *serve.Options) {
		o.WithFaults(func(st store.Store) store.Store {
			*at = storetest.Wrap(st, faults...)
			return *at
		})
	}
}

// Danger: the disk fills up, and the run dies or forgets a merge. Here the tape
// cannot be written for a while: merges pause, islands train on, the user is told,
// and when there is space again everything is as if nothing had been (L2).
func TestFullStorePausesMerges(t *testing.T) {
	t.Parallel()
	var st *storetest.Faulty
	var full, again sync.Once
	steps := 0
	c := begin(t, folder(t), tiny(t, nil), false, func(c *trial, e ledger.Event) {
		switch e := e.(type) {
		case ledger.Merged:
			if e.Version == 3 {
				full.Do(func() { st.Set(storetest.Fault{Op: storetest.Create, Err: store.ErrFull}) })
			}
		case ledger.StepDone:
			if len(recorded[ledger.StorePaused](c)) > 0 {
				steps++
			}
			if steps == 5 { // made without a merge
				again.Do(func() { st.Set() })
			}
		}
	}, faulty(&st))
	c.finish()
	paused := recorded[ledger.StorePaused](c)
	if len(paused) < 2 || !strings.Contains(paused[0].Reason, "full") || paused[len(paused)-1].Reason != "" {
		t.Errorf("the pause and its end are not told: %v", paused)
	}
}

// D2, second half (CASES: the disk is full later on): a save that does not fit is held
// and tried again, which is told once, and the older one stays until the new one is whole.
func TestD2FullStoreHoldsTheCheckpoint(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*50, 1 })
	var st *storetest.Faulty
	dir := folder(t)
	var first string
	held := 0
	c := begin(t, dir, run, false, func(_ *trial, e ledger.Event) {
		switch e := e.(type) {
		case ledger.CheckpointSaved:
			if first == "" {
				first = e.Path
				var full []storetest.Fault
				for attempt := range 3 {
					full = append(full, storetest.Fault{Op: storetest.Put, Name: "checkpoints/*/momentum.safetensors", Nth: attempt + 1, AfterBytes: 1000, Err: store.ErrFull})
				}
				st.Set(full...)
			}
		case ledger.CheckpointHeld:
			held++
			read(t, filepath.Join(first, "model.safetensors")) // the old one is there
		}
	}, faulty(&st))
	sum := c.finish()
	if held != 1 || *sum.Checkpoint == first {
		t.Errorf("held %d times, newest checkpoint %s", held, *sum.Checkpoint)
	}
}

// The reply of the store is lost after an object was made: the writer finds its own
// content there and goes on; nothing is committed twice (S1).
func TestLostRepliesOfTheStore(t *testing.T) {
	t.Parallel()
	var st *storetest.Faulty
	c := begin(t, folder(t), tiny(t, nil), false, nil, faulty(&st,
		storetest.Fault{Op: storetest.Create, Name: "tape/era-0001/group-0/*", Nth: 4, Effect: storetest.Done},
		storetest.Fault{Op: storetest.Create, Name: "tape/era-0001/group-0/*", Nth: 7},
		storetest.Fault{Op: storetest.Create, Name: "tape/era-0001/coord/*", Nth: 5, Effect: storetest.Done},
		storetest.Fault{Op: storetest.Create, Name: "tape/era-0001/coord/*", Nth: 8},
	))
	c.finish()
}

// A save that fails for another reason is given up; the next one is made, and the
// run does not suffer.
func TestFailedSave(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens = stepTokens * 50 })
	var st *storetest.Faulty
	c := begin(t, folder(t), run, false, nil, faulty(&st, storetest.Fault{Op: storetest.Put, Name: "checkpoints/*/model.safetensors", Nth: 1}))
	c.finish()
	held := recorded[ledger.CheckpointHeld](c)
	if len(held) != 1 || !strings.Contains(held[0].Reason, "model.safetensors") {
		t.Errorf("the failure is not told: %v", held)
	}
	if len(recorded[ledger.CheckpointSaved](c)) == 0 {
		t.Error("no checkpoint was saved")
	}
}

// The last checkpoint is what a run is for: without it the run has failed (D6).
func TestFailedLastSave(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens = 0 })
	var st *storetest.Faulty
	_, err := begin(t, folder(t), run, false, nil, faulty(&st, storetest.Fault{Op: storetest.Put, Name: "checkpoints/*/model.safetensors"})).wait()
	if !errors.Is(err, serve.ErrRunFailed) || !strings.Contains(err.Error(), "the last checkpoint could not be written") {
		t.Errorf("%v", err)
	}
}

// S4: a coordinator whose tape was taken over commits nothing more and ends.
func TestTapeIsTakenOver(t *testing.T) {
	t.Parallel()
	var st *storetest.Faulty
	var once sync.Once
	dir := folder(t)
	c := begin(t, dir, tiny(t, nil), false, func(c *trial, e ledger.Event) {
		if m, ok := e.(ledger.Merged); ok && m.Version == 2 {
			once.Do(func() {
				other, err := store.OpenFolder(dir)
				if err == nil {
					err = store.CloseSequence(t.Context(), other, "tape/era-0001/group-0", 2, func(store.Segment) {})
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}, faulty(&st))
	sum, err := c.wait()
	if err == nil || !strings.Contains(err.Error(), "another coordinator has taken over") || sum.Outcome != ledger.RunFailed {
		t.Errorf("%v: %+v", err, sum)
	}
	audited(t, dir, -1)
}

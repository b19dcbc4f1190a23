package serve_test

import (
	"errors"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// Danger: an island from outside comes back after the next checkpoint, or an era later, when the
// one that has its state is pruned: its moments are lost, or what it trained counts twice. Here
// it takes them over to the bit, in a folder and where nothing can be linked.
func TestStateWaitsBeyondTheNextCheckpoint(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*serve.Options){
		"folder": func(*serve.Options) {},
		"no links": func(o *serve.Options) {
			o.WithFaults(func(st store.Store) store.Store { return storetest.Wrap(st) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			run := tiny(t, func(run *runfile.Run) {
				listed(run)
				run.Tokens = stepTokens * 1_000_000 // nobody gets to the end
				run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*30, 1
			})
			s := serveRun(t, dir, run, false, change)
			j := s.invitation()
			s.join(j, "a")
			s.join(j, "b")
			s.until(readyIs("a"))
			s.until(checkpoints(2))
			s.interruptNow()
			if _, err := s.wait(); !errors.Is(err, serve.ErrInterrupted) {
				t.Fatal(err)
			}
			saved := newestMeta(t, dir).Islands["a"].Slots
			if len(saved) != 3 {
				t.Fatalf("a has saved %v", saved)
			}

			s = serveRun(t, dir, run, true, change)
			s.join(s.invitation(), "b")
			s.until(checkpoints(2))
			s.interruptNow()
			if _, err := s.wait(); !errors.Is(err, serve.ErrInterrupted) {
				t.Fatal(err)
			}
			if part := newestMeta(t, dir).Islands["a"]; len(part.Slots) != 3 || part.Slots[2] != saved[2] {
				t.Fatalf("the next checkpoints have %+v", part)
			}

			s = serveRun(t, dir, run, true, change)
			j = s.invitation()
			s.join(j, "b")
			s.until(checkpoints(1))
			s.join(j, "a")
			s.until(readyIs("a"))
			s.interruptNow()
			if _, err := s.wait(); !errors.Is(err, serve.ErrInterrupted) {
				t.Fatal(err)
			}
			audited(t, dir, -1)
			got := restoredRecords(t, dir, 3)["a"]
			for _, slot := range saved[1:] {
				if got[slot.Slot] != slot.Digest {
					t.Errorf("%s restored with %s, saved with %s", slot.Slot, got[slot.Slot], slot.Digest)
				}
			}
			if lost := recorded[ledger.NotRestored](s.trial); len(lost) > 0 {
				t.Errorf("%v", lost)
			}
		})
	}
}

func readyIs(island string) func(ledger.Event) bool {
	return func(e ledger.Event) bool {
		ready, ok := e.(ledger.IslandReady)
		return ok && ready.Island == island
	}
}

// checkpoints is true once so many were saved.
func checkpoints(n int) func(ledger.Event) bool {
	numbers := map[uint64]bool{}
	return func(e ledger.Event) bool {
		if saved, ok := e.(ledger.CheckpointSaved); ok {
			numbers[saved.Number] = true
		}
		return len(numbers) >= n
	}
}

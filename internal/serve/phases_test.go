package serve_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// witness keeps what is on the disk before each operation that a run makes on its checkpoints: that is
// what a kill -9 in that moment leaves.
type witness struct {
	store.Store
	t       *testing.T
	into    string
	mu      sync.Mutex
	saved   int      // checkpoints so far; the second is watched, and what of the first is removed then
	moments []string // names of copies, in order
}

func (w *witness) see(op, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	watched := w.saved == 1 || w.saved == 2 && op == "delete"
	if !watched || !strings.HasPrefix(name, "checkpoints/") {
		return
	}
	moment := fmt.Sprintf("%02d %s %s", len(w.moments), op, strings.ReplaceAll(name, "/", "."))
	if err := copyAsKilled(w.Location(), filepath.Join(w.into, moment)); err != nil {
		w.t.Errorf("%s: %v", moment, err)
	}
	w.moments = append(w.moments, moment)
}

// copyAsKilled copies a run folder that processes go on writing to: checkpoints first, so that the
// tape is never behind them, and half-written files as far as they have come.
func copyAsKilled(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		final := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(final, 0o755)
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(final, data, 0o644)
	})
}

func (w *witness) Put(ctx context.Context, name string, write func(io.Writer) error) (store.Object, error) {
	w.see("put", name)
	return w.Store.Put(ctx, name, func(to io.Writer) error {
		err := write(to)
		w.see("half", name)
		return err
	})
}

func (w *witness) Create(ctx context.Context, name string, data []byte) error {
	w.see("create", name)
	return w.Store.Create(ctx, name, data)
}

func (w *witness) Delete(ctx context.Context, name string) error {
	w.see("delete", name)
	return w.Store.Delete(ctx, name)
}

// Danger: the power fails in the middle of a save or of the removal of an old checkpoint, and
// none that is whole is left. Of every moment of one the run goes on from a whole checkpoint, to its end, with
// every sample once.
func TestKilledAtEachPhaseOfASave(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Tokens, run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*160, stepTokens*50, 1
	})
	w := &witness{t: t, into: t.TempDir()}
	begin(t, folder(t), run, false, func(_ *trial, e ledger.Event) {
		if _, ok := e.(ledger.CheckpointSaved); ok {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.saved++
		}
	}, func(o *serve.Options) {
		o.WithFaults(func(st store.Store) store.Store {
			w.Store = st
			return w
		})
	}).finish()
	if len(w.moments) < 12 {
		t.Fatalf("it has seen %v", w.moments)
	}
	for _, moment := range w.moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			c := begin(t, filepath.Join(w.into, moment), run, true, nil)
			c.finish()
			if start := recorded[ledger.RunStarted](c)[0]; start.TokensDone < 50*stepTokens {
				t.Errorf("it goes on with %d tokens", start.TokensDone)
			}
		})
	}
}

package serve_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// What a user can get wrong about a new run is told on one line, at once, and leaves
// nothing behind.
func TestNewRunIsRefused(t *testing.T) {
	t.Parallel()
	short := filepath.Join(t.TempDir(), "short.txt")
	if err := os.WriteFile(short, []byte("short"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	for name, bad := range map[string]struct {
		change  func(*runfile.Run)
		problem string
	}{
		"text missing":        {func(r *runfile.Run) { r.Data.Paths = []string{"/no/such/text"} }, "/no/such/text"},
		"folder without text": {func(r *runfile.Run) { r.Data.Paths = []string{empty} }, empty},
		"text too short":      {func(r *runfile.Run) { r.Data.Paths = []string{short} }, "short"},
	} {
		run := tiny(t, nil)
		bad.change(&run)
		dir := folder(t)
		began := time.Now()
		_, err := begin(t, dir, run, false, nil).wait()
		refused(t, err, bad.problem, ";")
		if d := time.Since(began); d > time.Second {
			t.Errorf("%s: told after %v", name, d)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: the run folder was made", name)
		}
	}
}

// D2, first half (CASES: crash at the first save, hours later): what is planned does not
// fit, which is told before anything is computed; both sizes are named.
func TestD2NoSpaceForTheCheckpoints(t *testing.T) {
	dir := folder(t)
	c := begin(t, dir, tiny(t, nil), false, nil, func(o *serve.Options) {
		o.WithFaults(func(st store.Store) store.Store { return crowded{storetest.Wrap(st)} })
	})
	_, err := c.wait()
	refused(t, err, "", "")
	if !strings.Contains(err.Error(), "12345") && !strings.Contains(err.Error(), "12.3") {
		t.Errorf("the space that is there is not named: %v", err)
	}
	if len(recorded[ledger.RunStarted](c)) > 0 {
		t.Error("the run began")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%d files were left", len(left))
	}
}

// crowded is a store with 12,345 bytes to spare.
type crowded struct{ store.Store }

func (crowded) FreeBytes(context.Context) (int64, bool, error) { return 12_345, true, nil }

// A program that cannot be started, or that ends before it trains, is tried a few
// times; then the run ends with the reason.
func TestIslandsThatCannotStart(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]struct{ program, reason string }{
		"no such program":  {"/no/such/program", "/no/such/program"},
		"it ends at once":  {"/bin/true", "its process ended"},
		"it fails at once": {"/bin/false", "exit status 1"},
	} {
		c := begin(t, folder(t), tiny(t, func(r *runfile.Run) { r.Limits.Restarts = 2 }), false, nil, func(o *serve.Options) {
			o.StartIsland = []string{bad.program}
		})
		sum, err := c.wait()
		if err == nil || sum.Outcome != ledger.RunFailed {
			t.Fatalf("%s: %v", name, err)
		}
		told := false
		for _, g := range recorded[ledger.IslandGone](c) {
			told = told || strings.Contains(g.Reason, bad.reason)
		}
		if !told {
			t.Errorf("%s: nobody is told why: %v", name, recorded[ledger.IslandGone](c))
		}
	}
}

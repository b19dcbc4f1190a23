package serve_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// The danger: how a run ended is known to those only who have kept what it printed. The tape tells it, also in
// a folder that was moved; of a coordinator that was killed it tells no more than is known.
func TestTheTapeTellsHowARunEnded(t *testing.T) {
	t.Parallel()
	if _, err := serve.Ended(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no run") {
		t.Errorf("of an empty folder: %v", err)
	}
	dir := folder(t)
	run := alone(t, func(run *runfile.Run) {
		run.Tokens, run.Checkpoint.EveryTokens = stepTokens*1_000_000, stepTokens*100
	})
	c := begin(t, dir, run, false, nil)
	c.until(func(e ledger.Event) bool { _, ok := e.(ledger.CheckpointSaved); return ok })
	c.kill()
	p, err := serve.Ended(t.Context(), dir)
	if s := p.Summary; err != nil || p.Whole || !p.At.IsZero() || s.Outcome != ledger.RunUnknown || s.Tokens == 0 || s.GoalTokens != stepTokens*1_000_000 || s.Checkpoint == nil {
		t.Errorf("of one that was killed: %+v, %v", p, err)
	}
	c = begin(t, dir, run, true, nil)
	c.until(func(e ledger.Event) bool { _, ok := e.(ledger.Merged); return ok })
	c.interruptNow()
	sum, err := c.wait()
	if !errors.Is(err, serve.ErrInterrupted) {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	p, err = serve.Ended(t.Context(), moved)
	if err != nil || !p.Whole || p.At.IsZero() || p.Summary.Outcome != ledger.RunInterrupted || p.Summary.Era != 2 {
		t.Fatalf("of one that was interrupted: %+v, %v", p, err)
	}
	if !strings.HasPrefix(*p.Summary.Checkpoint, moved) || p.Summary.Dir != moved {
		t.Errorf("it is in %s, with checkpoint %s", p.Summary.Dir, *p.Summary.Checkpoint)
	}
	p.Summary.Checkpoint, p.Summary.Dir = sum.Checkpoint, sum.Dir
	if got, want := asJSON(t, p.Summary), asJSON(t, sum); !reflect.DeepEqual(got, want) {
		t.Errorf("the tape tells\n%v, the run said\n%v", got, want)
	}
}

func asJSON(t *testing.T, v any) (out map[string]any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

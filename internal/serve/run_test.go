package serve_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// text writes files of simple, learnable text and returns their folder.
func text(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for f := range 40 {
		var b strings.Builder
		for i := range 60 {
			fmt.Fprintf(&b, "func step%d(x int) int { return x + %d }\n", i%7, (i*f)%10)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d.txt", f)), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tiny is a run of a tiny model that ends in seconds.
func tiny(t testing.TB, change func(*runfile.Run)) runfile.Run {
	t.Helper()
	run, err := runfile.Default().WithModel("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	run.Data.Paths = []string{text(t)}
	run.Train.SequenceTokens, run.Train.BatchSequences = 32, 4
	run.Tokens = 128 * 200
	run.Exchange.PeriodTokens = 128 * 8
	run.Eval.Sequences, run.Eval.FinalSequences = 16, 64
	if change != nil {
		change(&run)
	}
	if run, err = run.Resolve(); err != nil {
		t.Fatal(err)
	}
	return run
}

// recorder keeps the events of a run and lets a test act on them.
type recorder struct {
	mu     sync.Mutex
	events []ledger.Event
	on     func(ledger.Event)
}

func (r *recorder) emit(e ledger.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	if r.on != nil {
		r.on(e)
	}
}

// train runs to the end and returns what it did.
func train(t testing.TB, dir string, run runfile.Run, change func(*serve.Options), on func(ledger.Event)) (ledger.Summary, []ledger.Event, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{on: on}
	o := serve.Options{
		Run: run, Dir: dir, StartIsland: []string{self}, Emit: r.emit,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	if change != nil {
		change(&o)
	}
	sum, err := serve.Train(context.Background(), o)
	return sum, r.events, err
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func TestTwoUnlikeIslandsTrainOneModel(t *testing.T) {
	sum, _, err := train(t, filepath.Join(t.TempDir(), "run"), tiny(t, nil), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	loss, ok := sum.ValidLoss.Get()
	if !ok || math.IsNaN(loss) {
		t.Fatalf("no validation loss: %+v", sum)
	}
	t.Logf("%+v", sum)
}

package island

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/runfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny is a run of a tiny model on generated text: 4 samples of 16 tokens a step.
func tiny(t testing.TB, change func(*runfile.Run)) (runfile.Run, *corpus.Set, string) {
	t.Helper()
	run, err := runfile.Default().WithModel("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.Mkdir(text, 0o755); err != nil {
		t.Fatal(err)
	}
	for f := range 8 {
		line := fmt.Sprintf("for i := range %d { sum += i }\n", f)
		if err := os.WriteFile(filepath.Join(text, fmt.Sprintf("%d.txt", f)), []byte(strings.Repeat(line, 40)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run.Data.Paths, run.Data.ValidShare = []string{text}, 0.3
	run.Train.SequenceTokens, run.Train.BatchSequences = 16, 4
	run.Tokens = 64 * 100
	run.Exchange.PeriodTokens = 64 * 8
	if change != nil {
		change(&run)
	}
	if run, err = run.Resolve(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	paths := run.Data.Paths
	if run.Data.Own {
		paths = []string{text} // islands bring their own, and a learner without an island has something
	}
	data, err := corpus.Build(t.Context(), corpus.Spec{Paths: paths, ValidShare: run.Data.ValidShare, Seq: run.Train.SequenceTokens}, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() }) //nolint:errcheck // opened for reading
	return run, data, dir
}

// withState gives the model tensors that no gradient moves: router bias and statistics.
func withState(r *runfile.Run) {
	r.Model.RouterBias, r.Model.BiasRate = true, 0.01
	r.Model.RoutingWarmupTokens, r.Model.RoutingWarmupWindow = 1200, 5
}

// seeded is a learner with the run's initial weights at version 0, that emulates what
// the first island of the run does.
func seeded(t testing.TB, run runfile.Run, data *corpus.Set) *Learner {
	t.Helper()
	profile, err := numeric.Find(run.Islands[0].Numeric)
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLearner(run, data, 1, nil, profile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	params := make([]float32, run.Model.Size())
	engine.InitParams(run.Model.Config, run.Seed, params)
	for p, f := range l.fragments {
		value := make([]float32, f.Size)
		f.Gather(value, params)
		if err := l.seed(p, 0, 0, value); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func steps(t testing.TB, l *Learner, n int) []StepStats {
	t.Helper()
	var out []StepStats
	for range n {
		s, err := l.Step()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func sameBits(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

// engineOf is the trainer of a native learner.
func engineOf(l *Learner) *native { return l.trainer.(*native) }

package island

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
)

// B2 (CASES: a loss of 0.0 with gradient norm NaN runs on for hours): a step whose
// gradient is not finite is not applied, says so at once, and shows its loss as
// non-finite, never as 0; the samples count as used.
func TestB2NonFiniteStep(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	l.Lease(0, 100)
	steps(t, l, 3)
	for i := range l.Params() {
		l.Params()[i] = float32(math.NaN())
	}
	before := slices.Clone(l.Params())
	m, v := engineOf(l).adam.Moments()
	m, v = slices.Clone(m), slices.Clone(v)

	s := steps(t, l, 1)[0]
	if s.Applied || !math.IsNaN(s.Loss) || !math.IsNaN(s.GradientNorm) {
		t.Errorf("%+v", s)
	}
	if l.skipped != 1 || l.step != 4 || l.position != 16 {
		t.Errorf("skipped %d, step %d, position %d", l.skipped, l.step, l.position)
	}
	m2, v2 := engineOf(l).adam.Moments()
	if !sameBits(l.Params(), before) || !sameBits(m, m2) || !sameBits(v, v2) {
		t.Error("it was applied all the same")
	}
}

// How a step's samples are cut into passes, and on how many threads they are computed,
// does not show in a single bit of the weights (D2 of the design). The loss that is
// shown is a sum over passes and may differ in its last ones.
func TestStepIsTheSameHoweverItIsComputed(t *testing.T) {
	t.Run("plain", func(t *testing.T) { stepIsTheSame(t, nil) })
	t.Run("with state", func(t *testing.T) { stepIsTheSame(t, withState) })
}

func stepIsTheSame(t *testing.T, change func(*runfile.Run)) {
	run, data, _ := tiny(t, change)
	want := seeded(t, run, data)
	want.Lease(0, 40)
	losses := steps(t, want, 10)
	for name, change := range map[string]func(*runfile.Run){
		"passes of 2": func(r *runfile.Run) { r.Train.BatchSequences, r.Train.Accumulate = 2, 2 },
		"passes of 1": func(r *runfile.Run) { r.Train.BatchSequences, r.Train.Accumulate = 1, 4 },
	} {
		other := run
		change(&other)
		l := seeded(t, other, data)
		l.Lease(0, 17)
		l.Lease(17, 40)
		for i, s := range steps(t, l, 10) {
			if math.Abs(s.Loss-losses[i].Loss) > 1e-12 || s.GradientNorm != losses[i].GradientNorm {
				t.Fatalf("%s, step %d: %+v, want %+v", name, i, s, losses[i])
			}
		}
		if !sameBits(l.Params(), want.Params()) {
			t.Errorf("%s: other weights", name)
		}
	}
	threads, err := NewLearner(run, data, 3, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer threads.Close()
	copy(threads.Params(), seeded(t, run, data).Params())
	threads.Lease(0, 40)
	steps(t, threads, 10)
	if !sameBits(threads.Params(), want.Params()) {
		t.Error("3 threads: other weights")
	}
}

func TestStepWithoutSamples(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	if _, err := l.Step(); err == nil {
		t.Error("a step of no samples")
	}
	l.Lease(0, 3)
	if s := steps(t, l, 1)[0]; s.Tokens != 3*16 || l.position != 3 || l.Left() != 0 {
		t.Errorf("a short step: %+v at position %d", s, l.position)
	}
}

// A learner that joins in mid-run has moments that say little: its rate rises over
// 1/(1-β₂) steps to the schedule's (L3).
func TestJoinersRateRises(t *testing.T) {
	run, data, _ := tiny(t, func(r *runfile.Run) { r.Train.WarmupTokens = 0 })
	l := seeded(t, run, data)
	l.joinSteps = 0
	l.Lease(0, 400)
	for i, s := range steps(t, l, 25) {
		want := l.schedule.Rate(int64(i+1)*64) * min(1, float64(i+1)*(1-run.Train.Beta2))
		if s.Rate != want {
			t.Fatalf("step %d: rate %v, want %v", i+1, s.Rate, want)
		}
	}
}

// The rate depends on the stamp adopted last and on what was trained since it was
// counted, so on tokens alone (D4).
func TestClock(t *testing.T) {
	c := clock{stamp: 1000, own: 300}
	if got := c.at(364); got != 1064 {
		t.Errorf("%d tokens", got)
	}
}

func TestExpertLoad(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	experts := run.Model.Experts
	tokens := make([]int64, run.Model.Layers*experts)
	if got := l.load(tokens); got != 0 {
		t.Errorf("no tokens: load %v", got)
	}
	for i := range tokens {
		tokens[i] = 5
	}
	if got := l.load(tokens); got != 1 {
		t.Errorf("even: load %v", got)
	}
	last := tokens[len(tokens)-experts:]
	clear(last)
	last[2] = 7
	if got := l.load(tokens); got != float64(experts) {
		t.Errorf("one expert has all: load %v, want %d", got, experts)
	}
}

// A step moves the router's state when it is applied, and only then.
func TestStepMovesState(t *testing.T) {
	run, data, _ := tiny(t, withState)
	l := seeded(t, run, data)
	l.Lease(0, 100)
	state := func() (elements []float32) {
		for _, tensor := range run.Table() {
			if tensor.Kind == model.State {
				elements = append(elements, l.Params()[tensor.Offset:tensor.Offset+tensor.Size()]...)
			}
		}
		return elements
	}
	if !sameBits(state(), make([]float32, len(state()))) {
		t.Error("state is not 0 at the start")
	}
	steps(t, l, 1)
	moved := state()
	for i, x := range moved {
		if x == 0 {
			t.Errorf("element %d did not move", i)
		}
	}
	for i := range run.Model.Dim * run.Model.Vocab {
		l.Params()[i] = float32(math.NaN())
	}
	if s := steps(t, l, 1)[0]; s.Applied || !sameBits(state(), moved) {
		t.Errorf("a step that was not applied moved state: %+v", s)
	}
}

// A step's loss is the mean over target tokens: a model that knows nothing is at ln 256
// whatever share of the tokens ends a document, and E8's masked ones do not count.
func TestLossIsOfTargetTokens(t *testing.T) {
	text := filepath.Join(t.TempDir(), "numbers")
	if err := os.Mkdir(text, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // every fourth token ends a document
		if err := os.WriteFile(filepath.Join(text, fmt.Sprint(i)), []byte(fmt.Sprintf("%03d", i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, boundaries := range []bool{true, false} {
		run, data, _ := tiny(t, func(r *runfile.Run) {
			r.Data.Paths, r.Train.DocumentBoundaries = []string{text}, boundaries
		})
		l := seeded(t, run, data)
		clear(l.Params())
		b, err := engineOf(l).backward(&task{samples: []uint64{0, 1, 2, 3, 4, 5, 6, 7}})
		if err != nil {
			t.Fatal(err)
		}
		want := 8 * run.Train.SequenceTokens
		if boundaries {
			want -= want / 4
		}
		if b.Tokens != want || math.Abs(b.Loss()-math.Log(256)) > 1e-5 {
			t.Errorf("boundaries %v: loss %v over %d target tokens, want ln 256 over %d", boundaries, b.Loss(), b.Tokens, want)
		}
	}
}

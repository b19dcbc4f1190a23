package engine

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/rng"
)

// TestBoundariesMaskAndCount is case E8: the end token does not learn the start of
// the next document, which is at position 0.
func TestBoundariesMaskAndCount(t *testing.T) {
	cfg := named(t, "plain")
	cfg.Vocab = 100
	e := opEngine(t, cfg, 1, 4)
	e.load(Batch{Tokens: []int32{10, 11, 99, 20, 21}, Rows: 1, Boundaries: true, EndToken: 99}, 0)
	var positions []int
	for i := range 4 {
		positions = append(positions, e.position(i))
	}
	got := fmt.Sprint("inputs ", e.tokens, " labels ", e.labels, " positions ", positions, " targets ", e.targetTokens())
	if want := "inputs [10 11 99 20] labels [11 99 -1 21] positions [0 1 2 0] targets 3"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	e.load(Batch{Tokens: []int32{10, 11, 99, 20, 21}, Rows: 1, EndToken: 99}, 0)
	if got := fmt.Sprint(e.labels, e.begin, e.targetTokens()); got != "[11 99 20 21] [0 0 0 0] 4" {
		t.Errorf("without boundaries: %s", got)
	}
}

// packed is two documents in one sequence, and each alone; end is the end token.
func packed(seed uint64, first, second int, end int32) (both, one, two []int32) {
	stream := rng.New(2, rng.Test, seed)
	for i := range first + second + 1 {
		token := int32(stream.Uint32() % uint32(end))
		if i == first-1 {
			token = end
		}
		both = append(both, token)
	}
	return both, both[:first+1], both[first:]
}

// TestDocumentsDoNotSeeEachOther is case E9: whatever the first document says, the
// second one's losses stay the same to the bit.
func TestDocumentsDoNotSeeEachOther(t *testing.T) {
	for _, first := range []int{5, queryBlock + 3} {
		both, _, _ := packed(uint64(first), first, 50, 6)
		e := newEngine(t, named(t, "everything"), Options{Threads: 1})
		losses := func(boundaries bool) []float64 {
			if _, _, err := e.Loss(Batch{Tokens: both, Rows: 1, Boundaries: boundaries, EndToken: 6}); err != nil {
				t.Fatal(err)
			}
			return slices.Clone(e.loss[first:])
		}
		with, without := losses(true), losses(false)
		for i := range first - 1 {
			both[i] = (both[i] + 1) % 6
		}
		if !slices.Equal(losses(true), with) {
			t.Errorf("the second of two documents, from %d on, sees the first", first)
		}
		if slices.Equal(losses(false), without) {
			t.Error("without boundaries the second document does not see the first: this test sees nothing")
		}
	}
}

// TestPackedGradientsEqualUnpacked is the other half of E9. Without router losses,
// which are computed over a sequence whatever documents it holds.
func TestPackedGradientsEqualUnpacked(t *testing.T) {
	cfg := named(t, "everything")
	cfg.BalanceCoef, cfg.ZCoef = 0, 0
	both, one, two := packed(3, queryBlock+7, 60, 6)
	e := newEngine(t, cfg, Options{Threads: 2})
	run := func(parts ...[]int32) (sum float64, targets int) {
		e.ZeroGrads()
		for _, tokens := range parts {
			s, err := e.Backward(Batch{Tokens: tokens, Rows: 1, Boundaries: true, EndToken: 6})
			if err != nil {
				t.Fatal(err)
			}
			sum, targets = sum+s.LossSum, targets+s.Tokens
		}
		return sum, targets
	}
	wantSum, wantTargets := run(one, two)
	want := widen(e.grads)
	sum, targets := run(both)
	if targets != wantTargets || math.Abs(sum/wantSum-1) > 1e-6 {
		t.Errorf("packed: loss %v over %d tokens, unpacked %v over %d", sum, targets, wantSum, wantTargets)
	}
	if r := relative(e.grads, want); r > 1e-5 {
		t.Errorf("packed gradient is off by %.2g", r)
	}
}

func TestBoundariesAgreeWithTwin(t *testing.T) {
	for _, cfg := range enginetest.Configs() {
		t.Run(cfg.Name, func(t *testing.T) {
			e := newEngine(t, cfg, Options{Threads: 2})
			b := randomBatch(cfg, 5, 3, 21)
			b.Boundaries, b.EndToken = true, 2
			checkAgainstTwin(t, e, b)
		})
	}
	t.Run("across blocks", func(t *testing.T) {
		cfg := named(t, "everything")
		cfg.Vocab = 90
		e := newEngine(t, cfg, Options{Threads: 2})
		checkAgainstTwin(t, e, Batch{Tokens: randomTokens(cfg, 6, 2, tokenBlock+37), Rows: 2, Boundaries: true, EndToken: 11})
	})
}

// A sequence of end tokens has nothing to learn: no loss and no gradient.
func TestSequenceWithoutTargets(t *testing.T) {
	e := newEngine(t, named(t, "everything"), Options{Threads: 1})
	s, err := e.Backward(Batch{Tokens: []int32{1, 1, 1, 1}, Rows: 1, Boundaries: true, EndToken: 1})
	if err != nil || s.Tokens != 0 || s.LossSum != 0 {
		t.Errorf("%d targets, loss %v, %v", s.Tokens, s.LossSum, err)
	}
	for i, g := range e.grads {
		if g != 0 {
			t.Fatalf("gradient of %s is %v", tensorAt(e.cfg, i), g)
		}
	}
}

// TestImposedChoices hands a batch of several passes the choices of another model:
// they are what Choices gives, and the twin agrees with what comes of them.
func TestImposedChoices(t *testing.T) {
	cfg := named(t, "everything")
	e := newEngine(t, cfg, Options{Threads: 2})
	b := Batch{Tokens: randomTokens(cfg, 8, 2, 30), Rows: 2}
	own := func() scalar.Choices {
		if _, _, err := e.Loss(b); err != nil {
			t.Fatal(err)
		}
		return scalar.Choices(clone(e.Choices()))
	}
	free := own()
	b.Choices = clone(free)
	for l := range b.Choices {
		for i, c := range b.Choices[l] {
			b.Choices[l][i] = (c + 1) % int32(cfg.Experts)
		}
	}
	checkAgainstTwin(t, e, b)
	if got := own(); fmt.Sprint(got) != fmt.Sprint(b.Choices) || fmt.Sprint(got) == fmt.Sprint(free) {
		t.Errorf("imposed %v, visited %v", b.Choices, got)
	}
}

func clone(choices [][]int32) [][]int32 {
	var out [][]int32
	for _, list := range choices {
		out = append(out, slices.Clone(list))
	}
	return out
}

// TestChoicesOfSeveralPasses imposes a long batch's own choices on it: each pass must
// find its part.
func TestChoicesOfSeveralPasses(t *testing.T) {
	cfg := named(t, "plain")
	const rows, seq = groupTokens/500 + 2, 500
	e, b := newEngine(t, cfg, Options{Threads: 2}), Batch{Tokens: randomTokens(cfg, 9, rows, seq), Rows: rows}
	want, _, err := e.Loss(b)
	if err != nil {
		t.Fatal(err)
	}
	b.Choices = clone(e.Choices())
	if n := len(b.Choices[0]); n != rows*seq*cfg.TopK {
		t.Fatalf("%d choices of %d tokens", n, rows*seq)
	}
	if got, _, err := e.Loss(b); err != nil || got != want {
		t.Errorf("with its own choices imposed the loss is %v (%v), before %v", got, err, want)
	}
}

func TestImposedChoicesAreChecked(t *testing.T) {
	e := newEngine(t, named(t, "dense first layer"), Options{Threads: 1})
	for name, choices := range map[string][][]int32{
		"a layer too few":       {nil},
		"on a dense layer":      {{0, 1}, {0, 1}},
		"an input too few":      {nil, {0}},
		"no such expert":        {nil, {0, 3}},
		"a negative expert":     {nil, {-1, 0}},
		"the same expert twice": {nil, {1, 1}},
	} {
		if _, err := e.Backward(Batch{Tokens: []int32{1, 2}, Rows: 1, Choices: choices}); err == nil {
			t.Errorf("%s: %v was imposed", name, choices)
		}
	}
	if _, err := e.Backward(Batch{Tokens: []int32{1, 2}, Rows: 1, Choices: [][]int32{nil, {2, 0}}}); err != nil {
		t.Error(err)
	}
}

package gate

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/rng"
)

const rows, cols = 6, 8 // of the tensors of these tests

// gradients draws those of some tensors, none like another: normal, with a few large
// elements, of equal elements, of one element.
func gradients(draw uint64) [][]float32 {
	s := rng.New(draw, rng.Test, 0)
	normal := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(s.Normal())
		}
		return x
	}
	spiky, flat := normal(rows*cols), make([]float32, rows*cols)
	spiky[7] *= 1000
	for i := range flat {
		flat[i] = 0.5
	}
	return [][]float32{normal(rows * cols), spiky, normal(rows * cols), flat, normal(1), normal(rows * cols)}
}

func recordOf(seed uint64, number string, loss float64, grads [][]float32) Record {
	r := Record{Format: Format, Number: number, Maker: "a test", Seed: seed, Weights: Sharpened, Probe: NewProbe(seed, 256, 8, true, 255), Loss: loss}
	for i, g := range grads {
		r.Tensors = append(r.Tensors, NewTensor("tensor."+string(rune('a'+i)), Project(seed, i, 0, g)))
	}
	return r
}

func clone(x [][]float32) [][]float32 {
	out := make([][]float32, len(x))
	for i := range x {
		out[i] = slices.Clone(x[i])
	}
	return out
}

// off moves every tensor by an error of the given relative length, in a random direction.
func off(grads [][]float32, draw uint64, relative []float64) [][]float32 {
	s, out := rng.New(draw, rng.Test, 1), clone(grads)
	for i, g := range out {
		e, length, all := make([]float64, len(g)), 0.0, 0.0
		for k := range e {
			e[k] = s.Normal()
			length += e[k] * e[k]
			all += float64(g[k]) * float64(g[k])
		}
		for k := range g {
			g[k] = float32(float64(g[k]) + e[k]*relative[i]*math.Sqrt(all/length))
		}
	}
	return out
}

func ownOf(n int) *Own {
	own := &Own{Loss: 1e-4}
	for range n {
		own.Gradients = append(own.Gradients, 0.02)
	}
	return own
}

func judged(t *testing.T, reference, answer Record, own *Own) Verdict {
	t.Helper()
	v, err := Judge(reference, answer, own)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// An answer whose every tensor is off by all that its bound allows passes in ten thousand
// draws of gradients, errors and signs. By FalseAlarms one in a million would not.
func TestWhatIsInsideItsBoundsPasses(t *testing.T) {
	for _, format := range []string{FP32, BF16} {
		own := ownOf(6)
		at := make([]float64, 6)
		for i := range at {
			at[i] = 0.999 * gradientBound(FP32, format, own, i)
		}
		for draw := range uint64(5000) {
			g := gradients(draw)
			reference := recordOf(draw, FP32, 5, g)
			answer := recordOf(draw, format, 5*(1+0.999*lossBound(FP32, format, own)), off(g, draw, at))
			if v := judged(t, reference, answer, own); !v.Passed {
				t.Fatalf("%s, draw %d: %s", format, draw, v.Reason)
			}
		}
	}
}

// Faults in the gradient of one tensor are caught and the tensor is named, whatever the
// signs; in a rounded format a scale must be off by more than its bounds allow.
func TestFaultsAreCaughtAndNamed(t *testing.T) {
	scale := func(f float32) func([]float32, []float32) {
		return func(x, _ []float32) {
			for i := range x {
				x[i] *= f
			}
		}
	}
	faults := []struct {
		name    string
		formats []string
		spoil   func(x, other []float32)
	}{
		{"sign", []string{FP32, BF16}, scale(-1)},
		{"scale of 1.01", []string{FP32}, scale(1.01)},
		{"scale of 1.1", []string{BF16}, scale(1.1)},
		{"transposed", []string{FP32, BF16}, func(x, _ []float32) {
			y := slices.Clone(x)
			for r := range rows {
				for c := range cols {
					x[c*rows+r] = y[r*cols+c]
				}
			}
		}},
		{"zero", []string{FP32, BF16}, func(x, _ []float32) { clear(x) }},
		{"swapped", []string{FP32, BF16}, func(x, other []float32) {
			y := slices.Clone(x)
			copy(x, other)
			copy(other, y)
		}},
		{"one element", []string{FP32}, func(x, _ []float32) { x[3]++ }},
	}
	for _, f := range faults {
		for _, format := range f.formats {
			missed, own := 0, ownOf(6)
			for draw := range uint64(2000) {
				g := gradients(draw)
				answer := off(g, draw, []float64{1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6})
				f.spoil(answer[2], answer[5])
				v := judged(t, recordOf(draw, FP32, 5, g), recordOf(draw, format, 5, answer), own)
				switch {
				case v.Passed:
					missed++
				case v.First.Name != "tensor.c" || !strings.Contains(v.Reason, "tensor.c"):
					t.Fatalf("%s in %s, draw %d: %s", f.name, format, draw, v.Reason)
				}
			}
			// A relative error e is missed when its estimate is below the bound times what is
			// granted to chance: for e of about 1.4 (a tensor swapped or turned) and a bound of
			// 0.06 that is one draw in some thousands.
			if missed > 2 {
				t.Errorf("%s in %s: missed in %d of 2000 draws", f.name, format, missed)
			}
		}
	}
}

// Danger: nothing is above a bound that is no number, and everybody passes.
func TestBoundThatIsNoNumberLetsNobodyPass(t *testing.T) {
	grads := gradients(1)
	reference := recordOf(1, FP32, 3, grads)
	nan := slices.Repeat([]float64{math.NaN()}, len(grads))
	for name, own := range map[string]*Own{"gradients": {Gradients: nan}, "loss": {Loss: math.NaN(), Gradients: make([]float64, len(grads))}} {
		v, err := Judge(reference, recordOf(1, BF16, 3, grads), own)
		if err != nil || v.Passed {
			t.Errorf("%s: passed %v, %v", name, v.Passed, err)
		}
	}
}

func TestLossIsJudged(t *testing.T) {
	g := gradients(1)
	reference := recordOf(1, FP32, 5, g)
	if v := judged(t, reference, recordOf(1, FP32, 5.0001, g), nil); v.Passed || v.First != nil || !strings.Contains(v.Reason, "the loss is off by 0.002 %") {
		t.Errorf("%+v", v)
	}
	if v := judged(t, reference, recordOf(1, BF16, 5.0001, g), nil); !v.Passed {
		t.Errorf("%+v", v)
	}
}

// Small errors everywhere are what a format that was not declared looks like.
func TestRoundingThatWasNotDeclaredIsRecognised(t *testing.T) {
	g := gradients(1)
	answer := off(g, 1, []float64{0.03, 0.03, 0.03, 0.03, 0.03, 0.03})
	if v := judged(t, recordOf(1, FP32, 5, g), recordOf(1, FP32, 5, answer), nil); v.Passed || !strings.Contains(v.Reason, "has to say in which") {
		t.Error(v.Reason)
	}
}

// A tensor without a gradient has none in the answer either; one that is all but
// cancelled is compared with the whole gradient's rounding.
func TestGradientsOfNothing(t *testing.T) {
	g := gradients(1)
	clear(g[2])
	reference := recordOf(1, FP32, 5, g)
	if v := judged(t, reference, recordOf(1, FP32, 5, g), nil); !v.Passed || v.Worst.Error != 0 {
		t.Errorf("%+v", v)
	}
	answer := clone(g)
	answer[2][0] = 1e-6 // the whole is about 1,000 long
	if v := judged(t, reference, recordOf(1, FP32, 5, answer), nil); !v.Passed {
		t.Errorf("rounding: %s", v.Reason)
	}
	answer[2][0] = 0.1
	if v := judged(t, reference, recordOf(1, FP32, 5, answer), nil); v.Passed || v.First.Name != "tensor.c" {
		t.Errorf("a gradient out of nothing: %+v", v)
	}
}

func TestAnswersToSomethingElse(t *testing.T) {
	g := gradients(1)
	reference := recordOf(1, FP32, 5, g)
	fewer, renamed := recordOf(1, FP32, 5, g[:5]), recordOf(1, FP32, 5, g)
	renamed.Tensors[1].Name = "another"
	for name, answer := range map[string]Record{"another probe": recordOf(2, FP32, 5, g), "5 tensors, the model has 6": fewer, `"another" where the model has "tensor.b"`: renamed} {
		if _, err := Judge(reference, answer, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherChoicesAreAShare(t *testing.T) {
	g := gradients(1)
	reference, answer := recordOf(1, FP32, 5, g), recordOf(1, FP32, 5, g)
	inputs := reference.Probe.Inputs()
	for range inputs {
		reference.Choices = [][]int32{append(at(reference.Choices), 0, 1), nil}
		answer.Choices = [][]int32{append(at(answer.Choices), 1, 0), nil} // the same, in another order
	}
	if v := judged(t, reference, answer, nil); v.OtherChoices == nil || *v.OtherChoices != 0 {
		t.Errorf("%+v", v.OtherChoices)
	}
	answer.Choices[0][0] = 3
	if v := judged(t, reference, answer, nil); *v.OtherChoices != 1/float64(2*inputs) || !v.Passed {
		t.Errorf("%+v", *v.OtherChoices)
	}
	answer.Choices = nil
	if v := judged(t, reference, answer, nil); v.OtherChoices != nil {
		t.Errorf("unknown became %v", *v.OtherChoices)
	}
}

func at(choices [][]int32) []int32 {
	if len(choices) == 0 {
		return nil
	}
	return choices[0]
}

// The bound of chance holds for the vectors for which it is hardest: one with many equal
// elements has projections that are nearly normal, and χ² is the limit. Here with a chance
// that shows in a million draws.
func TestCertaintyIsEnough(t *testing.T) {
	x := make([]float32, 40)
	for i := range x {
		x[i] = 1
	}
	const chance = 1e-3
	// Chernoff's x for this chance, found as certainty finds it.
	k := float64(Projections)
	low, high := k, 100.0
	for range 60 {
		if mid := (low + high) / 2; k/2*math.Log(mid/k)-(mid-k)/2 > math.Log(chance) {
			low = mid
		} else {
			high = mid
		}
	}
	beyond, draws := 0, 200_000
	for draw := range draws {
		var squares float64
		for _, p := range Project(uint64(draw), 0, 0, x).Along {
			squares += p * p
		}
		if squares > high*float64(len(x)) {
			beyond++
		}
	}
	if share := float64(beyond) / float64(draws); share > chance {
		t.Errorf("a share of %v lies beyond, at most %v may", share, chance)
	}
	for _, tensors := range []int{1, 100, 17_000} {
		t.Logf("%d tensors: %.3f", tensors, certainty(tensors))
	}
}

// A refusal says of an island of many ranks and hosts who gave the first gradient outside.
func TestRefusalNamesWhoGaveTheGradient(t *testing.T) {
	g := gradients(1)
	reference := recordOf(1, FP32, 5, g)
	wrong := clone(g)
	for i := range wrong[2] {
		wrong[2][i] = -wrong[2][i]
	}
	none := make([][]float32, len(g))
	for i := range none {
		none[i] = make([]float32, len(g[i]))
	}
	given := func(grads [][]float32, tensors map[int]Span) *Record {
		r := recordOf(1, FP32, 5, grads)
		for i, s := range tensors {
			r.Tensors[i].Ranks = &s
		}
		return &r
	}
	everything := map[int]Span{0: {0, 7}, 1: {0, 7}, 2: {0, 7}, 3: {0, 7}, 4: {0, 7}, 5: {0, 7}}
	for says, parts := range map[string][]*Record{
		"tensor tensor.c is off by":                                            {given(wrong, nil)},
		"tensor tensor.c, as rank 3 gave it, is off by":                        {given(wrong, map[int]Span{2: {3, 3}})},
		"tensor tensor.c, as rank 9 on host 1 gave it, is off by":              {given(none, map[int]Span{0: {0, 7}}), given(wrong, map[int]Span{2: {9, 9}})},
		"tensor tensor.c, as ranks 0 to 12 on hosts 0 to 1 gave it, is off by": {given(none, everything), given(wrong, map[int]Span{2: {8, 12}})},
	} {
		answer, err := Together(parts)
		if err != nil {
			t.Fatal(err)
		}
		if v := judged(t, reference, answer, nil); v.Passed || v.First == nil || v.First.Name != "tensor.c" || !strings.Contains(v.Reason, says) {
			t.Errorf("%+v, want %s", v, says)
		}
	}
}

package anatomy

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/model"
)

func TestF5ExpertsThatATokenVisits(t *testing.T) {
	d := mixtral8x7B()
	some := d.Work(Convention{Sequence: 4096}).Of(ExpertWork)
	d.Layers[0].Experts.TopK = 8
	all := d.Work(Convention{Sequence: 4096}).Of(ExpertWork)
	if some.Forward != all.Forward*2/8 || some.Backward != all.Backward*2/8 {
		t.Errorf("%g of %g", some.Forward, all.Forward)
	}
}

func TestF9OneDenseLayer(t *testing.T) {
	d := llama("", 1, 4096, 32, 8, 14336, 32000)
	w := d.Work(Convention{Sequence: 4096})
	if a, m := w.Of(Projections).Forward, w.Of(DenseWork).Forward; a != 83_886_080 || m != 352_321_536 || a+m != 436_207_616 {
		t.Errorf("attention %g, MLP %g", a, m)
	}
}

func TestF10TeraIsAThousandGiga(t *testing.T) {
	if got := Rate(1e12, 1); got != "1.000 TFLOP/s" {
		t.Error(got)
	}
}

// Narayanan et al. (arXiv 2104.04473), appendix: a training step of GPT without
// recomputation is 72 B s l h² (1 + s/(6h) + V/(12 l h)) with the head counted whole.
func TestGPTWorkIsTheirFormula(t *testing.T) {
	const layers, hidden, vocab, sequence = 96, 12288, 51200, 2048
	w := gpt("gpt-3", layers, hidden, 96, vocab, 0, true).Work(Convention{Sequence: sequence, Full: true})
	l, h, s := float64(layers), float64(hidden), float64(sequence)
	want := 72 * l * h * h * (1 + s/(6*h) + vocab/(12*l*h))
	if got := w.Forward() + w.Backward(); math.Abs(got/want-1) > 1e-12 {
		t.Errorf("%g, their formula gives %g", got, want)
	}
}

func TestModelsOfOursWorkAlike(t *testing.T) {
	for _, name := range model.PresetNames() {
		c, err := model.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, sequence := range []int{1, 64, 4096} {
			got, want := Of(c).Work(Convention{Sequence: sequence}), c.FLOPs(sequence)
			for part, v := range map[string]float64{
				Projections: want.Projections, Scores: want.Scores, Router: want.Router, ExpertWork: want.Experts,
				Shared: want.Shared, DenseWork: want.Dense, Head: want.Head,
			} {
				if got.Of(part).Forward != v {
					t.Errorf("%s: %s %g, want %g", name, part, got.Of(part).Forward, v)
				}
			}
			if f, b := got.Forward(), got.Backward(); math.Abs(f/want.Forward-1) > 1e-12 || math.Abs(b/want.Backward-1) > 1e-12 {
				t.Errorf("%s: %g forward, %g backward, want %g and %g", name, f, b, want.Forward, want.Backward)
			}
		}
	}
}

// The mean number of keys is that of a loop over queries.
func TestSeenIsALoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sequence, window := rapid.IntRange(1, 300).Draw(t, "sequence"), rapid.IntRange(0, 400).Draw(t, "window")
		pairs := 0
		for query := range sequence {
			for key := range query + 1 {
				if window == 0 || query-key < window {
					pairs++
				}
			}
		}
		if got := Seen(sequence, window, false) * float64(sequence); math.Abs(got-float64(pairs)) > 1e-6 {
			t.Errorf("%g pairs, the loop has %d", got, pairs)
		}
	})
}

// Stages do the work of the model together.
func TestStagesDoTheWork(t *testing.T) {
	d, c := deepSeekV3(), Convention{Sequence: 4096}
	sum := 0.0
	for _, s := range d.Stages(16) {
		sum += s.Work(c).Forward()
	}
	if want := d.Work(c).Forward(); math.Abs(sum/want-1) > 1e-12 {
		t.Errorf("%g, want %g", sum, want)
	}
}

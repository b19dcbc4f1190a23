package anatomy

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Korthikanti et al. (arXiv 2205.05198), per token and layer: h(34 + 5as/h) without
// parallelism (equation 1), h(10 + 24/t + 5as/(ht)) with tensor parallelism (2),
// h/t (34 + 5as/h) with sequence parallelism (4), and without the scores when those
// are recomputed (table 2); 2h when the layer is.
func TestKeptIsTheirEquations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tp := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "tp")
		heads, dim := 8*rapid.IntRange(1, 16).Draw(t, "heads"), 8*rapid.IntRange(1, 32).Draw(t, "dim")
		s := rapid.IntRange(1, 8192).Draw(t, "sequence")
		hidden := heads * dim
		d := gpt("gpt", 4, hidden, heads, 51200, s, true)
		h, a, seq, n := float64(hidden), float64(heads), float64(s), float64(tp)
		for _, whole := range []bool{false, true} {
			for mode, want := range map[Recompute][2]float64{
				NoRecompute: {h / n * (34 + 5*a*seq/h), h * (10 + 24/n + 5*a*seq/(h*n))},
				Selective:   {34 * h / n, h * (10 + 24/n)},
				FullLayers:  {2 * h / n, 2 * h},
			} {
				k := Keeping{Layout: Layout{TP: tp, EP: 1, ETP: 1, PP: 1, Whole: whole}, Recompute: mode, Sequence: s, Element: 2, Unfused: true, Dropout: true}
				theirs := want[0]
				if whole {
					theirs = want[1]
				}
				if got := Sum(d.Last().Kept(hidden, k)); math.Abs(got/theirs-1) > 1e-12 {
					t.Errorf("%s, whole %v: %g, their equation %g", mode, whole, got, theirs)
				}
			}
		}
	})
}

// Section 4.3: 4 s b h/t (1 + v/h) for the last norm, the head and the logits.
func TestKeptAtTheHeadIsTheirs(t *testing.T) {
	d := gpt("gpt-3", 96, 12288, 96, 51200, 2048, true)
	k := Keeping{Layout: Layout{TP: 8, EP: 1, ETP: 1, PP: 1}, Recompute: NoRecompute, Element: 2}
	if got, want := Sum(d.Whole().KeptAtEnds(k)), 4.0*12288/8*(1+51200.0/12288); math.Abs(got/want-1) > 1e-12 {
		t.Errorf("%g, want %g", got, want)
	}
}

func TestF7ExpertsByTheirCount(t *testing.T) {
	d := mixtral8x7B()
	k := Keeping{Layout: Layout{TP: 2, EP: 4, ETP: 1, PP: 1}, Recompute: NoRecompute, Sequence: 4096, Element: 2}
	experts := func() float64 {
		n := 0.0
		for _, kept := range d.Last().Kept(d.Hidden, k) {
			if kept.Name == KeptExperts {
				n += kept.Bytes
			}
		}
		return n
	}
	two, all := experts(), Sum(d.Last().Kept(d.Hidden, k))
	d.Layers[0].Experts.TopK = 4
	if four := experts(); two == 0 || four != 2*two || Sum(d.Last().Kept(d.Hidden, k)) != all+two {
		t.Errorf("%g with two experts, %g with four", two, four)
	}
	four := Sum(d.Last().Kept(d.Hidden, k))
	d.Layers[0].MLP.Width = 99
	if Sum(d.Last().Kept(d.Hidden, k)) != four {
		t.Error("a dense width that no layer uses changes it")
	}
}

// An expert that is cut keeps as much inside, and its ends on every rank.
func TestExpertsCutByETP(t *testing.T) {
	d := mixtral8x7B()
	of := func(etp int) float64 {
		k := Keeping{Layout: Layout{TP: 4, EP: 2, ETP: etp, PP: 1}, Recompute: NoRecompute, Sequence: 4096, Element: 2}
		return Sum(d.Last().Kept(d.Hidden, k))
	}
	if got, want := of(4)-of(1), 3*2*2*2*4096.0/4; got != want {
		t.Errorf("%g more, want %g", got, want)
	}
}

func TestWorkThatIsDoneAgain(t *testing.T) {
	d := llama("", 4, 1024, 8, 8, 4096, 32000)
	c := Convention{Sequence: 2048}
	w := d.Work(c)
	s := d.Whole()
	if s.Again(NoRecompute, c) != 0 || s.Again(Selective, c) != w.Of(Scores).Forward || s.Again(FullLayers, c) != w.Forward()-w.Of(Head).Forward {
		t.Error("recomputed work is not that of the layers")
	}
}

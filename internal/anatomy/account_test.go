package anatomy

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The parts of an account come to its sums, for any model.
func TestAccountAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawn(t)
		q := Question{Sequence: rapid.IntRange(1, 4096).Draw(t, "sequence"), Layout: Single(), Formats: Mixed()}
		q.Layout.PP = rapid.IntRange(1, d.Depth()).Draw(t, "pp")
		a, err := q.For(d)
		if err != nil {
			t.Fatal(err)
		}
		p := d.Parameters()
		if a.Parameters.Total != p.Total() || a.Parameters.Active != p.Active() || a.Parameters.MTP != d.Modules().Total() {
			t.Errorf("%+v", a.Parameters)
		}
		layers, sum := 0, 0.0
		for _, k := range a.Kinds {
			layers += k.Count
			sum += float64(k.Count) * Sum(k.Kept[NoRecompute]) * float64(q.Sequence)
		}
		if got := a.Ends[NoRecompute].Layers; layers != d.Depth() || math.Abs(got-sum) > 1e-9*sum {
			t.Errorf("%d layers keep %g, their kinds %g", layers, got, sum)
		}
		most := int64(0)
		for _, s := range q.Layout.For(d).Stages(q.Layout.PP) {
			n := s.Parameters().Total()
			if s.Final {
				n += d.Modules().Total()
			}
			most = max(most, n)
		}
		if a.Rank.Dense+a.Rank.Experts != most || a.Rank.State[0].All != 18*most {
			t.Errorf("a rank has %+v, the largest stage %d", a.Rank, most)
		}
	})
}

// Windows make kinds of work, and none of parameters: a formula has a term for each kind.
func TestFormulasOfAlternatingLayersAreShort(t *testing.T) {
	a, err := Question{Sequence: 4096, Layout: Single(), Formats: Mixed()}.For(gptOSS())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range a.Parameters.Parts {
		if n := strings.Count(part.Formula, "layers"); n > 1 {
			t.Errorf("%s", part.Formula)
		}
	}
	if n := strings.Count(a.Work.Parts.Of(Scores).Formula, "layers"); n != 2 || len(a.Kinds) != 1 {
		t.Errorf("%d kinds of scores, %d of layers", n, len(a.Kinds))
	}
}

func TestDPThatLeavesNoPlace(t *testing.T) {
	q := Question{Sequence: 1, Layout: Layout{TP: 2, EP: 8, ETP: 1, PP: 1}, DP: 6, Formats: Mixed()}
	if _, err := q.For(mixtral8x7B()); err == nil || !strings.Contains(err.Error(), "use a multiple of 4") {
		t.Errorf("%v", err)
	}
	q.DP = 0
	if a, err := q.For(mixtral8x7B()); err != nil || a.Rank.DP != 4 {
		t.Errorf("%+v, %v", a.Rank, err)
	}
}

package plan

import (
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// 6e9 tensor-split, 0.1e9 copied and 40e9 routed parameters on TP 8, expert-TP 1, EP 2.
func TestF6PlannersRankHoldsItsParts(t *testing.T) {
	nothing := func(anatomy.Layout, anatomy.Recompute) []anatomy.Kept { return nil }
	all := sumsOf(alone(8), anatomy.Parameters{
		{Split: anatomy.Tensor, Count: 6e9}, {Split: anatomy.Copied, Count: 1e8}, {Split: anatomy.Routed, Count: 40e9},
	}, nothing)
	m := memoryTable{task: Task{Sequence: 1, Batch: 1}, habits: habitsOf(Task{})}
	a := m.ask(&shares{sums: []layerSums{{}, all}, imbalance: 1}, Layout{
		Layout: anatomy.Layout{TP: 8, EP: 2, ETP: 1, PP: 1}, DP: 1, CP: 1, VPP: 1, MicroBatch: 1,
	})
	p := a.parts(a.rank(0))
	const n = 20.85e9
	if p[Weights] != 2*n || p[Gradients] != 4*n || p[Masters] != 4*n || p[Moments] != 8*n {
		t.Errorf("%v bytes, want 2, 4, 4 and 8 of each of 20.85e9", p)
	}
}

// The experts' part goes with the tokens' choice, and a dense width that no layer uses is
// nothing.
func TestF7PlannersActivationsGoWithTheChoice(t *testing.T) {
	of := func(topK, width int) [Parts]float64 {
		d := withExperts(denseModel(8, 1024, 8, 8, 4096, 32000), 0, anatomy.Experts{Count: 16, TopK: topK, Each: anatomy.MLP{Width: 512, Gated: true}})
		d.Layers[0].MLP.Width = width
		m := newMemory(Task{Model: d, Sequence: 2048, Batch: 64})
		return m.of(Layout{Layout: anatomy.Layout{TP: 2, EP: 4, ETP: 1, PP: 2}, DP: 4, CP: 1, VPP: 1, MicroBatch: 1})
	}
	one, two, four := of(1, 0)[Activations], of(2, 0)[Activations], of(4, 0)[Activations]
	if expert := two - one; expert <= 0 || four-two != 2*expert {
		t.Errorf("%g, %g and %g bytes with 1, 2 and 4 experts a token", one, two, four)
	}
	if of(2, 0) != of(2, 4096) {
		t.Errorf("a dense width that no layer uses: %v, without %v", of(2, 4096), of(2, 0))
	}
}

// A busier rank keeps more of what experts keep, and nothing else.
func TestImbalanceIsOfExperts(t *testing.T) {
	of := func(imbalance float64, e *anatomy.Experts) float64 {
		d := denseModel(8, 1024, 8, 8, 4096, 32000)
		if e != nil {
			d = withExperts(d, 0, *e)
		}
		m := newMemory(Task{Model: d, Sequence: 2048, Batch: 4, Imbalance: imbalance})
		return m.of(Layout{Layout: anatomy.Layout{TP: 1, EP: 1, ETP: 1, PP: 1}, DP: 4, CP: 1, VPP: 1, MicroBatch: 1})[Activations]
	}
	if of(1, nil) != of(2, nil) {
		t.Error("a dense model has no imbalance")
	}
	some := func(topK int) *anatomy.Experts {
		return &anatomy.Experts{Count: 16, TopK: topK, Each: anatomy.MLP{Width: 512, Gated: true}}
	}
	if even, twice, double := of(1, some(2)), of(2, some(2)), of(1, some(4)); twice != double || twice <= even {
		t.Errorf("%g bytes, %g at twice the load, %g with twice the choice", even, twice, double)
	}
}

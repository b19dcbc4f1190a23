package anatomy

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/model"
)

// Any model of ours counts and works as its own package says.
func TestAnyModelOfOursCountsAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string, least, most int) int { return rapid.IntRange(least, most).Draw(t, name) }
		yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
		c := model.Config{
			Vocab: n("vocab", 2, 99), Dim: n("dim", 1, 40), Layers: n("layers", 1, 6), KVHeads: n("kv", 1, 4), HeadDim: 2 * n("half", 1, 9),
			DenseFFN: n("ffn", 1, 30), Experts: n("experts", 1, 9), ExpertFFN: n("width", 1, 20), SharedExperts: n("shared", 0, 2),
			RouterBias: yes("bias"), QKNorm: yes("norm"), TiedEmbeddings: yes("tied"),
		}
		c.Heads, c.TopK, c.DenseLayers = c.KVHeads*n("group", 1, 4), n("top", 1, c.Experts), n("dense", 0, c.Layers)
		if yes("warm-up") {
			c.RoutingWarmupTokens = 100
		}
		p, count := Of(c).Parameters(), c.Count()
		if p.Total() != count.Total || p.Active() != count.Active {
			t.Errorf("%d parameters, %d active, want %d and %d", p.Total(), p.Active(), count.Total, count.Active)
		}
		sequence := n("sequence", 1, 500)
		w, want := Of(c).Work(Convention{Sequence: sequence}), c.FLOPs(sequence)
		if got := w.Forward(); math.Abs(got/want.Forward-1) > 1e-12 {
			t.Errorf("%g operations, want %g", got, want.Forward)
		}
	})
}

package engine

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
)

// TestChooseTop is case A6: a tie goes to the lowest number, and what would tie in
// a narrower format does not tie here.
func TestChooseTop(t *testing.T) {
	log := func(x float64) float32 { return float32(math.Log(x)) }
	for _, c := range []struct {
		name   string
		logits []float32
		want   []int32
	}{
		{"tie", []float32{0.5, 0.5, 0.1, 0.1}, []int32{0}},
		{"chosen in fp32", []float32{log(0.3000), log(0.3001), log(0.2), log(0.1999)}, []int32{1}},
		{"all equal", []float32{1, 1, 1, 1}, []int32{0, 1, 2}},
		{"largest first", []float32{1, 3, 2, 3}, []int32{1, 3, 2, 0}},
		{"not a number", []float32{float32(math.NaN()), float32(math.NaN())}, []int32{0, 1}},
	} {
		got := make([]int32, len(c.want))
		chooseTop(got, c.logits)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: chose %v, want %v", c.name, got, c.want)
		}
	}
}

// chooseWith is a layer's choice for given logits; scores are sigmoids or, for a
// softmax router, exponentials, which are in its order.
func chooseWith(cfg model.Config, logits, bias []float32) (choice []int32, scores []float32) {
	l := &layer{Engine: &Engine{cfg: cfg}, w: &layerWeights{routerBias: bias}}
	c := newChooser(cfg)
	for _, x := range logits {
		if cfg.Router == model.Sigmoid {
			scores = append(scores, scalar.Sigmoid(x))
		} else {
			scores = append(scores, float32(math.Exp(float64(x))))
		}
	}
	choice = make([]int32, cfg.TopK)
	l.choose(&c, choice, logits, scores)
	return choice, scores
}

func TestGroupsOfExperts(t *testing.T) {
	softmax := model.Config{Router: model.Softmax, Experts: 6, TopK: 2, ExpertGroups: 3, TopGroups: 1}
	sigmoid := softmax
	sigmoid.Router = model.Sigmoid
	single := sigmoid
	single.ExpertGroups, single.TopGroups = 6, 3
	for _, c := range []struct {
		name         string
		cfg          model.Config
		logits, bias []float32
		want         []int32
	}{
		{"softmax: the group with the largest", softmax, []float32{3, -9, 2.9, 2.8, 0, 0}, nil, []int32{0, 1}},
		{"sigmoid: the two largest count", sigmoid, []float32{3, -9, 2.9, 2.8, 0, 0}, nil, []int32{2, 3}},
		{"sigmoid: of scores, not logits", sigmoid, []float32{40, -1, 3, 3, 0, 0}, nil, []int32{2, 3}},
		{"equal groups: the first", softmax, []float32{1, 0, 1, 0.5, 1, 0.7}, nil, []int32{0, 1}},
		{"bias moves a group", softmax, []float32{0, 0, 0, 0, 0, 0}, []float32{0, 0, 0, 0, 0, 0.1}, []int32{5, 4}},
		{"groups of one", single, []float32{1, 5, 2, 4, 3, 0}, nil, []int32{1, 3}},
	} {
		if got, _ := chooseWith(c.cfg, c.logits, c.bias); !slices.Equal(got, c.want) {
			t.Errorf("%s: chose %v, want %v", c.name, got, c.want)
		}
	}
}

// Logits are whole numbers, so that ties are many.
func TestChoiceAgreesWithTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.Map(rapid.IntRange(-3, 3), func(i int) float32 { return float32(i) })
		cfg := model.Config{Router: rapid.SampledFrom([]string{model.Softmax, model.Sigmoid}).Draw(t, "router")}
		cfg.ExpertGroups = rapid.IntRange(1, 4).Draw(t, "groups")
		cfg.TopGroups = rapid.IntRange(1, cfg.ExpertGroups).Draw(t, "top groups")
		each := rapid.IntRange(1, 4).Draw(t, "experts of a group")
		cfg.Experts = cfg.ExpertGroups * each
		cfg.TopK = rapid.IntRange(1, cfg.TopGroups*each).Draw(t, "k")
		logits := rapid.SliceOfN(whole, cfg.Experts, cfg.Experts).Draw(t, "logits")
		var bias []float32
		if rapid.Bool().Draw(t, "biased") {
			bias = rapid.SliceOfN(whole, cfg.Experts, cfg.Experts).Draw(t, "bias")
		}
		got, scores := chooseWith(cfg, logits, bias)
		for i, want := range scalar.Choose(cfg, logits, scores, bias) {
			if int(got[i]) != want {
				t.Fatalf("chose %v, twin %v", got, scalar.Choose(cfg, logits, scores, bias))
			}
		}
	})
}

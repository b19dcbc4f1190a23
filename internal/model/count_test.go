package model

import (
	"math"
	"testing"
)

// mixtral is the model of cases F4 and F5: 8 experts of which a token visits 2.
func mixtral() Config {
	return Config{
		Name: "mixtral", Vocab: 32_000, Dim: 4096, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128,
		Experts: 8, TopK: 2, ExpertFFN: 14_336, RopeTheta: 1e6, NormEps: 1e-5,
		Router: Softmax, NormTopK: true, InitStd: 0.02,
	}
}

// TestF4CountOfAMixture (CASES: counted as 7 or 13 billion, memory far too small): all
// experts are in memory, the chosen ones compute.
func TestF4CountOfAMixture(t *testing.T) {
	c := mixtral()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	n := c.Count()
	if n.Total != 46_702_792_704 || n.Active != 12_879_925_248 {
		t.Errorf("total %d, active %d; want 46702792704 and 12879925248", n.Total, n.Active)
	}
	if got := c.Bytes(); got.Weights != 4*n.Total || got.Total() != 16*n.Total {
		t.Errorf("memory %+v is not that of %d parameters", got, n.Total)
	}
	f := c.FLOPs(1)
	idle := int64(32_000*4096 + (2*32+1)*4096) // embedding and norms are no products
	if got, want := f.Forward-f.Scores, 2*float64(n.Active-idle); got != want {
		t.Errorf("%v FLOP a token, want two for each active parameter: %v", got, want)
	}
}

// TestF5ExpertComputeIsOfTheChosen (CASES: all experts counted, 287.78 for 79.98 TFLOP):
// the figures are of a step of 1,024 tokens whose scores are counted without a causal
// mask, as many as ours at a sequence of 2,047.
func TestF5ExpertComputeIsOfTheChosen(t *testing.T) {
	c, all := mixtral(), mixtral()
	all.TopK = all.Experts
	chosen, every := c.FLOPs(2047), all.FLOPs(2047)
	if chosen.Experts*8 != every.Experts*2 {
		t.Errorf("experts compute %v, all of them would %v: not 2/8", chosen.Experts, every.Experts)
	}
	step := func(f FLOPs) float64 { return 1024 * (f.Forward + f.Backward) / 1e12 }
	if math.Abs(step(chosen)-79.98) > 0.01 || math.Abs(step(every)-287.78) > 0.01 {
		t.Errorf("a step is %.2f TFLOP, with all experts %.2f; want 79.98 and 287.78", step(chosen), step(every))
	}
}

// TestF8TiedEmbeddings (CASES: ignored): what a tied head saves.
func TestF8TiedEmbeddings(t *testing.T) {
	tied := mixtral()
	tied.Vocab, tied.Dim, tied.TiedEmbeddings = 151_936, 1024, true
	untied := tied
	untied.TiedEmbeddings = false
	if got := untied.Count().Total - tied.Count().Total; got != 155_582_464 {
		t.Errorf("the head has %d parameters, want 155582464", got)
	}
	if untied.FLOPs(1) != tied.FLOPs(1) {
		t.Error("a tied head computes less")
	}
}

// TestF9WorkOfADenseLayer (CASES: FFN taken as 4 × width; full key and value
// projections).
func TestF9WorkOfADenseLayer(t *testing.T) {
	c := mixtral()
	c.Layers, c.DenseLayers, c.DenseFFN = 1, 1, 14_336
	f := c.FLOPs(1)
	if f.Projections != 83_886_080 || f.Dense != 352_321_536 || f.Projections+f.Dense != 436_207_616 {
		t.Errorf("projections %v, MLP %v; want 83886080 and 352321536", f.Projections, f.Dense)
	}
	if f.Experts != 0 || f.Router != 0 {
		t.Errorf("a dense layer has experts: %+v", f)
	}
}

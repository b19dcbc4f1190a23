package model

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
)

// TestCountOfPublishedModels compares with arXiv 2503.05139: 16.8 B parameters of
// which 2.75 B are active, and 290 B of which 28.8 B are (29.0 B with both embeddings
// counted, as here).
func TestCountOfPublishedModels(t *testing.T) {
	for _, c := range []struct {
		cfg           Config
		total, active float64
	}{{lingLite(), 16.80e9, 2.753e9}, {lingPlus(), 290.6e9, 29.0e9}} {
		if err := c.cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		n := c.cfg.Count()
		if math.Abs(float64(n.Total)/c.total-1) > 0.001 || math.Abs(float64(n.Active)/c.active-1) > 0.001 {
			t.Errorf("%s has %d parameters, %d active", c.cfg.Name, n.Total, n.Active)
		}
	}
}

func TestPresets(t *testing.T) {
	want := map[string]struct{ total, active int64 }{
		"ling-tiny":  {17_616, 14_544},
		"ling-nano":  {2_778_240, 713_856},
		"ling-micro": {20_139_264, 4_656_384},
		"ling-mini":  {100_213_248, 23_142_912},
		"ling-lite":  {16_801_974_272, 2_753_153_024},
		"ling-plus":  {290_602_910_976, 29_004_170_496},
	}
	if len(PresetNames()) != len(want) {
		t.Errorf("presets are %v", PresetNames())
	}
	for _, name := range PresetNames() {
		c, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := c.Count(); n.Total != want[name].total || n.Active != want[name].active {
			t.Errorf("%s has %d parameters, %d active", name, n.Total, n.Active)
		}
	}
	var input *fault.Input
	if _, err := Preset("ling-giga"); !errors.As(err, &input) || !strings.Contains(err.Error(), "ling-nano") {
		t.Errorf("an unknown preset gives %v", err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(c *Config)
		says   string
	}{
		{"vocab", func(c *Config) { c.Vocab = 1 }, "at least 2"},
		{"dim", func(c *Config) { c.Dim = 0 }, "at least 1"},
		{"dim", func(c *Config) { c.Dim = math.MaxInt }, "too large"},
		{"layers", func(c *Config) { c.Layers = 0 }, "1 to 4096"},
		{"dense_layers", func(c *Config) { c.DenseLayers = 5 }, "0 to 4"},
		{"dense_ffn", func(c *Config) { c.DenseLayers = 1 }, "at least 1"},
		{"kv_heads", func(c *Config) { c.KVHeads = 8 }, "1 to 4"},
		{"heads", func(c *Config) { c.KVHeads = 3 }, "multiple of kv_heads, which is 3"},
		{"head_dim", func(c *Config) { c.HeadDim = 7 }, "8"},
		{"experts", func(c *Config) { c.Experts = 0 }, "1 to"},
		{"experts", func(c *Config) { c.Layers, c.Experts = 4096, 65 }, "1 to 64"},
		{"experts", func(c *Config) { c.DenseLayers, c.DenseFFN, c.Experts = c.Layers, 1, 1<<40 }, "0 to 65536"},
		{"top_k", func(c *Config) { c.TopK = 17 }, "1 to 16"},
		{"expert_ffn", func(c *Config) { c.ExpertFFN = -1 }, "at least 1"},
		{"shared_experts", func(c *Config) { c.SharedExperts = -1 }, "0 to"},
		{"router", func(c *Config) { c.Router = "hash" }, "softmax or sigmoid"},
		{"rope_theta", func(c *Config) { c.RopeTheta = 0 }, "at least 1"},
		{"norm_eps", func(c *Config) { c.NormEps = 0 }, "above 0"},
		{"balance_coef", func(c *Config) { c.BalanceCoef = -1 }, "at least 0"},
		{"z_coef", func(c *Config) { c.ZCoef = math.NaN() }, "at least 0"},
		{"init_std", func(c *Config) { c.InitStd = math.Inf(1) }, "above 0"},
		{"rotary_dims", func(c *Config) { c.RotaryDims = 7 }, "even"},
		{"rotary_dims", func(c *Config) { c.RotaryDims = 34 }, "0 to 32"},
		{"expert_groups", func(c *Config) { c.ExpertGroups = 3 }, "divisor of 16"},
		{"top_groups", func(c *Config) { c.ExpertGroups, c.TopGroups = 4, 5 }, "1 to 4"},
		{"top_groups", func(c *Config) { c.ExpertGroups, c.TopGroups = 16, 1 }, "top_k is 2"},
		{"routed_scale", func(c *Config) { c.RoutedScale = -1 }, "at least 0"},
		{"bias_rate", func(c *Config) { c.BiasRate = math.Inf(1) }, "at least 0"},
		{"routing_warmup_tokens", func(c *Config) { c.RoutingWarmupTokens = -1 }, "at least 0"},
		{"routing_warmup_window", func(c *Config) { c.RoutingWarmupTokens = 9 }, "at least 1"},
		{"dim", func(c *Config) { c.Dim = math.MaxInt }, "use 1 to "},
		{"bias_rate", func(c *Config) { c.BiasRate = 1e300 }, "too large; use a number up to 3.4e+38"},
		{"z_coef", func(c *Config) { c.ZCoef = 1e39 }, "too large"},
		{"init_std", func(c *Config) { c.InitStd = 1e39 }, "too large"},
		{"model", func(c *Config) { c.Dim, c.ExpertFFN, c.Experts = 1<<20, 1<<20, 1<<10 }, "parameters"},
	} {
		cfg, err := Preset("ling-nano")
		if err != nil {
			t.Fatal(err)
		}
		c.change(&cfg)
		var input *fault.Input
		err = cfg.Validate()
		if !errors.As(err, &input) || input.Where != c.field || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

// anyConfig draws a valid configuration.
func anyConfig(t *rapid.T) Config {
	small := func(name string, low int) int { return rapid.IntRange(low, 5).Draw(t, name) }
	c := Config{
		Vocab: small("vocab", 2), Dim: small("dim", 1), Layers: small("layers", 1),
		KVHeads: small("kv heads", 1), HeadDim: 2 * small("half head", 1),
		Experts: small("experts", 1), ExpertFFN: small("expert ffn", 1), SharedExperts: small("shared", 0),
		DenseFFN: small("dense ffn", 1), RopeTheta: 100, NormEps: 1e-6, InitStd: 0.1,
		Router: rapid.SampledFrom([]string{Softmax, Sigmoid}).Draw(t, "router"),
		QKNorm: rapid.Bool().Draw(t, "qk norm"), TiedEmbeddings: rapid.Bool().Draw(t, "tied"),
	}
	c.Heads = c.KVHeads * small("group", 1)
	c.RouterBias, c.RoutingWarmupWindow = rapid.Bool().Draw(t, "router bias"), 1
	c.RoutingWarmupTokens = small("warm-up", 0)
	c.TopK = rapid.IntRange(1, c.Experts).Draw(t, "top k")
	c.DenseLayers = rapid.IntRange(0, c.Layers).Draw(t, "dense layers")
	return c
}

func TestTensorsFillTheFlatVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		names, end := map[string]bool{}, 0
		for _, tensor := range c.Tensors() {
			if names[tensor.Name] || tensor.Offset != end || tensor.Size() < 1 {
				t.Fatalf("%s, %d elements at %d, follows on %d", tensor.Name, tensor.Size(), tensor.Offset, end)
			}
			names[tensor.Name] = true
			end += tensor.Size()
			if (tensor.Kind == Expert) != (tensor.Expert >= 0) {
				t.Fatalf("%s is of kind %s and expert %d", tensor.Name, tensor.Kind, tensor.Expert)
			}
			if tensor.Decay != (tensor.Kind != Norm && tensor.Kind != Embedding && tensor.Kind != State) {
				t.Fatalf("%s: decay is %v", tensor.Name, tensor.Decay)
			}
		}
		if c.Size() != end || c.Count().Total != int64(end) || c.Bytes().Total() != 16*int64(end) {
			t.Fatalf("size %d, count %d, bytes %d; the tensors end at %d", c.Size(), c.Count().Total, c.Bytes().Total(), end)
		}
	})
}

// TestActiveAgreesWithMatrices counts the matrices of one token: active
// parameters are what a product reads, plus norms and the embedding.
func TestActiveAgreesWithMatrices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		f, n := c.FLOPs(1), c.Count()
		products := (f.Projections + f.Router + f.Experts + f.Shared + f.Dense + f.Head) / 2
		rest := n.ByKind[Norm] + n.ByKind[State] + n.ByKind[Embedding]
		if c.TiedEmbeddings {
			rest = n.ByKind[Norm] + n.ByKind[State] // the embedding is the head
		}
		if int64(products) != n.Active-rest {
			t.Fatalf("products read %v parameters, %d are active besides norms, state and embedding", products, n.Active-rest)
		}
	})
}

func TestFLOPsOfNano(t *testing.T) {
	c, err := Preset("ling-nano")
	if err != nil {
		t.Fatal(err)
	}
	f := c.FLOPs(127)
	want := FLOPs{
		Projections: 4 * 2 * 128 * (128 + 64 + 64 + 128),
		Scores:      4 * 4 * 128 * 64, // 64 keys on average
		Router:      4 * 2 * 128 * 16,
		Experts:     4 * 2 * 6 * 128 * 96,
		Shared:      4 * 6 * 128 * 96,
		Head:        2 * 128 * 256,
	}
	want.Forward = want.Projections + want.Scores + want.Router + want.Experts + want.Shared + want.Head
	want.Backward = 2 * want.Forward
	if f != want {
		t.Errorf("FLOPs are %+v, want %+v", f, want)
	}
}

func TestCountByKind(t *testing.T) {
	c, err := Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	n := c.Count()
	sum := int64(0)
	for _, k := range n.ByKind {
		sum += k
	}
	if sum != n.Total || n.ByKind[Expert] != 2*4*3*16*16 || n.ByKind[Shared] != 2*3*16*16 {
		t.Errorf("counts are %+v", n)
	}
}

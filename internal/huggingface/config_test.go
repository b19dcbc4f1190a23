package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// published are configurations with the values that their makers give.
func published(t testing.TB, name string) []byte { return config(t, "config", name) }

func config(t testing.TB, folder, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", folder, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The presets of Ling were written by hand from the same publications.
func TestPublishedLingIsThePreset(t *testing.T) {
	for _, name := range []string{"ling-lite", "ling-plus"} {
		d, err := parseConfig(name, published(t, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := model.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		d.Config.Name = name
		if d.Config != want || d.Family != bailingName || d.Positions != 16384 || d.Dtype != "bfloat16" {
			t.Errorf("%s is %+v", name, d)
		}
	}
}

// TestPublishedCounts compares with the parameter counts that the makers publish:
// 16.26 B and 1.43 B active of Ling-mini-2.0 (its model card), 30.5 B and 3.3 B of
// Qwen3-30B-A3B (arXiv 2505.09388, table 2).
func TestPublishedCounts(t *testing.T) {
	for _, c := range []struct {
		name, family  string
		total, active float64
	}{{"ling-mini-2", bailing2Name, 16.26e9, 1.43e9}, {"qwen3-30b-a3b", qwen3Name, 30.5e9, 3.3e9}} {
		d, err := parseConfig(c.name, published(t, c.name))
		if err != nil {
			t.Fatal(err)
		}
		n := d.Config.Count()
		if d.Family != c.family || math.Abs(float64(n.Total)/c.total-1) > 0.002 || math.Abs(float64(n.Active)/c.active-1) > 0.02 {
			t.Errorf("%s (%s) has %d parameters, %d active", c.name, d.Family, n.Total, n.Active)
		}
	}
}

func TestLing2IsReadInFull(t *testing.T) {
	d, err := parseConfig("config.json", published(t, "ling-mini-2"))
	if err != nil {
		t.Fatal(err)
	}
	want := model.Config{
		Vocab: 157_184, Dim: 2048, Layers: 20, Heads: 16, KVHeads: 4, HeadDim: 128, DenseLayers: 1, DenseFFN: 5120,
		Experts: 256, TopK: 8, ExpertFFN: 512, SharedExperts: 1, RopeTheta: 600_000, RotaryDims: 64, NormEps: 1e-6,
		Router: model.Sigmoid, NormTopK: true, ExpertGroups: 8, TopGroups: 4, RoutedScale: 2.5, RouterBias: true, QKNorm: true,
		BalanceCoef: 0.015, ZCoef: 1e-4, InitStd: 0.02,
	}
	if d.Config != want {
		t.Errorf("read   %+v\nwanted %+v", d.Config, want)
	}
}

// change gives a published configuration with some fields replaced; the value ""
// takes a field out.
func change(t testing.TB, name string, fields map[string]string) []byte {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(published(t, name), &all); err != nil {
		t.Fatal(err)
	}
	for field, value := range fields {
		if value == "" {
			delete(all, field)
		} else {
			all[field] = json.RawMessage(value)
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRefusedByName: what the engine does not compute as the family's code does is
// refused with the field and its value.
func TestRefusedByName(t *testing.T) {
	const lite, mini, qwen = "ling-lite", "ling-mini-2", "qwen3-30b-a3b"
	for _, c := range []struct{ from, field, value, says string }{
		{lite, "use_bias", `true`, "not what the engine computes"},
		{lite, "use_bias", ``, "turns on"}, // that code's default
		{lite, "use_qkv_bias", `true`, "not what the engine computes"},
		{lite, "hidden_act", `"gelu"`, "not what the engine computes"},
		{lite, "rope_scaling", `{"type":"yarn","factor":4}`, "not what the engine computes"},
		{lite, "use_sliding_window", `true`, "not what the engine computes"},
		{lite, "norm_softmax", `true`, "not what the engine computes"},
		{lite, "multi_gate", `true`, "not what the engine computes"},
		{lite, "is_encoder_decoder", `true`, "not what the engine computes"},
		{lite, "attention_dropout", `0.1`, "not what the engine computes"},
		{lite, "num_nextn_predict_layers", `1`, "not what the engine computes"},
		{lite, "quantization_config", `{"bits":4}`, "not what the engine computes"},
		{lite, "partial_rotary_factor", `0.5`, "not what the engine computes"},
		{lite, "tie_word_embeddings", `true`, "norm_head"},
		{lite, "n_routed_experts", `64`, "not known"},
		{lite, "model_type", `"mamba"`, "no family"},
		{lite, "architectures", `["LlamaForCausalLM"]`, "no architecture"},
		{lite, "hidden_size", ``, "missing"},
		{lite, "hidden_size", `"2048"`, "whole number"},
		{lite, "hidden_size", `2048.5`, "whole number"},
		{lite, "rms_norm_eps", `true`, "a number"},
		{lite, "num_attention_heads", `17`, "multiple"},
		{lite, "num_experts_per_tok", `65`, "too large"},
		{lite, "max_position_embeddings", `-1`, "negative"},
		{mini, "score_function", `"softmax"`, "not what the engine computes"},
		{mini, "topk_method", `"greedy"`, "not what the engine computes"},
		{mini, "norm_head", `true`, "not what the engine computes"},
		{mini, "norm_topk_prob", `false`, "not what the engine computes"},
		{mini, "use_rmsnorm", `false`, "not what the engine computes"},
		{mini, "using_split_qkv_in_self_attention", `true`, "not what the engine computes"},
		{mini, "num_nextn_predict_layers", `2`, "not what the engine computes"},
		{mini, "router_dtype", `"bf16"`, "not what the engine computes"},
		{mini, "moe_shared_expert_intermediate_size", `1024`, "moe_intermediate_size"},
		{mini, "rotary_dim", `32`, "contradicts"},
		{mini, "partial_rotary_factor", `0`, "no part"},
		{mini, "n_group", `256`, "groups of one expert"},
		{mini, "n_group", `7`, "divide"},
		{mini, "topk_group", `9`, "too large"},
		{mini, "use_qk_norm", ``, "missing"},
		{mini, "moe_router_enable_expert_bias", ``, "missing"},
		{qwen, "attention_bias", `true`, "not what the engine computes"},
		{qwen, "decoder_sparse_step", `2`, "not what the engine computes"},
		{qwen, "mlp_only_layers", `[0,5]`, "other layers"},
		{qwen, "num_local_experts", `64`, "contradicts"},
		{qwen, "rope_parameters", `{"rope_type":"yarn","rope_theta":1e6}`, "not what the engine computes"},
		{qwen, "rope_parameters", `{"rope_theta":1e6,"twist":2}`, "twist"},
		{qwen, "rope_theta", ``, "missing"},
		{qwen, "num_hidden_layers", `5000`, "too large"},
		{qwen, "num_experts", `16384`, "use 1 to 5461"},
		{qwen, "layer_types", `["linear_attention"]`, "not known"},
	} {
		_, err := parseConfig("config.json", change(t, c.from, map[string]string{c.field: c.value}))
		var in *fault.Input
		if !errors.As(err, &in) || in.Where != "config.json: "+c.field || !strings.Contains(err.Error(), c.says) || in.Next == "" {
			t.Errorf("%s: %s %s gives %v", c.from, c.field, c.value, err)
		}
		if err != nil && c.value != "" && in.Value == "" {
			t.Errorf("%s: no value in %v", c.field, err)
		}
	}
}

// The page names every field that is read, accepted or refused by its value.
func TestPageNamesEveryField(t *testing.T) {
	page, err := os.ReadFile("../../docs/formats/huggingface.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, fam := range families() {
		f, err := parseFields("config.json", []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		fam.read(f)
		f.carry(append(withoutBearing(), fam.carried...))
		for _, field := range append(sortedKeys(f.asked), notGivenBack()...) {
			if !strings.Contains(string(page), "`"+field+"`") {
				t.Errorf("%s: %s is not on the page", fam.name, field)
			}
		}
	}
}

func TestHarmlessVariants(t *testing.T) {
	for _, c := range []struct {
		from   string
		fields map[string]string
		check  func(d Description) bool
	}{
		{"ling-lite", map[string]string{"num_shared_experts": `null`}, func(d Description) bool { return d.Config.SharedExperts == 0 }},
		{"ling-lite", map[string]string{"num_experts_per_tok": `1`}, func(d Description) bool { return !d.Config.NormTopK }},
		{"ling-lite", map[string]string{"head_dim": `64`}, func(d Description) bool { return d.Config.HeadDim == 64 }},
		{"ling-mini-2", map[string]string{"model_type": `""`}, func(d Description) bool { return d.Family == bailing2Name }},
		{"ling-mini-2", map[string]string{"model_type": `"bailing_moe_v2"`, "architectures": ``}, func(d Description) bool { return d.Family == bailing2Name }},
		{"ling-mini-2", map[string]string{"n_group": `1`, "topk_group": `1`}, func(d Description) bool { return !d.Config.Grouped() }},
		{"ling-mini-2", map[string]string{"routed_scaling_factor": `1.0`}, func(d Description) bool { return d.Config.RoutedScale == 0 }},
		{"qwen3-30b-a3b", map[string]string{"num_experts": ``, "num_local_experts": `128`}, func(d Description) bool { return d.Config.Experts == 128 }},
		{"qwen3-30b-a3b", map[string]string{"rope_theta": ``, "rope_parameters": `{"rope_theta":5e5,"rope_type":"default"}`},
			func(d Description) bool { return d.Config.RopeTheta == 5e5 }},
		{"qwen3-30b-a3b", map[string]string{"mlp_only_layers": `[0,1]`}, func(d Description) bool { return d.Config.DenseLayers == 2 && d.Config.DenseFFN == 6144 }},
		{"qwen3-30b-a3b", map[string]string{"torch_dtype": ``, "dtype": `"float32"`}, func(d Description) bool { return d.Dtype == "float32" }},
	} {
		d, err := parseConfig("config.json", change(t, c.from, c.fields))
		if err != nil || !c.check(d) {
			t.Errorf("%s with %v: %v, %+v", c.from, c.fields, err, d)
		}
	}
}

func TestConfigThatIsNoJSON(t *testing.T) {
	for _, text := range []string{"", "[]", "{", `{"a":1,"a":2}`, `{} {}`, `{"model_type":"qwen3_moe"`} {
		var in *fault.Input
		if _, err := parseConfig("config.json", []byte(text)); !errors.As(err, &in) {
			t.Errorf("%q gives %v", text, err)
		}
	}
	if _, err := parseConfig("config.json", make([]byte, maxConfigBytes+1)); err == nil {
		t.Error("a file of any size is read")
	}
}

// anyModel draws a model that a family can express.
func anyModel(t *rapid.T, fam string) model.Config {
	some := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
	flip := func(name string) bool { return rapid.Bool().Draw(t, name) }
	c := model.Config{
		Name: fam, Vocab: some("vocab", 2, 40), Dim: some("dim", 1, 6), Layers: some("layers", 1, 4), KVHeads: some("kv heads", 1, 3),
		HeadDim: 2 * some("half head", 1, 5), Experts: some("experts", 2, 8), ExpertFFN: some("expert ffn", 1, 5),
		RopeTheta: rapid.SampledFrom([]float64{1e4, 6e5, 1e6}).Draw(t, "theta"), NormEps: 1e-6, InitStd: 0.05,
		Router: model.Softmax, TiedEmbeddings: flip("tied"), BalanceCoef: 0.015, ZCoef: 1e-4,
	}
	c.Heads = c.KVHeads * some("group", 1, 3)
	c.TopK = some("top k", 2, c.Experts)
	if c.DenseLayers = some("dense", 0, c.Layers-1); c.DenseLayers > 0 {
		c.DenseFFN = some("dense ffn", 1, 5)
	}
	c.NormTopK = true
	switch fam {
	case bailingName:
		c.NormTopK, c.SharedExperts = flip("norm top k"), some("shared", 0, 2)
		c.NormHead = !c.TiedEmbeddings && flip("norm head")
	case bailing2Name:
		c.Router, c.SharedExperts, c.QKNorm, c.RouterBias = model.Sigmoid, some("shared", 0, 2), flip("qk norm"), flip("bias")
		c.RoutedScale = rapid.SampledFrom([]float64{0, 2.5}).Draw(t, "scale")
		if c.HeadDim > 2 && flip("partial") {
			c.RotaryDims = 2 * some("half rotary", 1, c.HeadDim/2-1)
		}
		if c.Experts%2 == 0 && c.Experts >= 4 && c.TopK <= c.Experts/2 && flip("groups") {
			c.ExpertGroups, c.TopGroups = 2, 1
		}
	case qwen3Name:
		c.NormTopK, c.QKNorm = flip("norm top k"), true
	}
	return c
}

// What is written is read back to the same model.
func TestConfigComesBack(t *testing.T) {
	for _, name := range Families() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				c := anyModel(t, name)
				if err := c.Validate(); err != nil {
					t.Fatal(err)
				}
				m := Model{Config: c, Positions: 77, EndToken: 1}
				fam, err := m.family(name)
				if err != nil {
					t.Fatal(err)
				}
				file := m.smallFiles(fam, Options{Dtype: BF16})[configName]
				d, err := parseConfig("config.json", file)
				d.Config.Name = c.Name
				if err != nil || d.Config != c || d.Family != name || d.Positions != 77 || d.Dtype != "bfloat16" || string(d.Carried["eos_token_id"]) != "1" {
					t.Fatalf("%v\nwrote %+v\nread  %+v\n%s", err, c, d, file)
				}
			})
		})
	}
}

// Every tensor of a model has one place in the files, but state of training.
func TestEveryTensorHasOnePlace(t *testing.T) {
	for _, fam := range families() {
		for _, grouped := range []bool{false, true} {
			rapid.Check(t, func(t *rapid.T) {
				c := anyModel(t, fam.name)
				places := map[string]int{}
				for _, f := range fam.fileTensors(c, grouped) {
					size := 0
					for _, part := range f.parts {
						places[part.Name]++
						size += part.Size()
					}
					if len(f.parts) > 0 && size != f.size() {
						t.Fatalf("%s of shape %v is made of %d elements", f.name, f.shape, size)
					}
				}
				for _, tensor := range c.Tensors() {
					if places[tensor.Name] != 1 {
						t.Fatalf("%s has %d places", tensor.Name, places[tensor.Name])
					}
				}
			})
		}
	}
}

// A model goes to the first family that can express it; otherwise each says why not.
func TestFamilyForAModel(t *testing.T) {
	base, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(c *model.Config)
		family string
		says   string
	}{
		{func(*model.Config) {}, bailingName, ""},
		{func(c *model.Config) { c.Router, c.NormHead = model.Sigmoid, false }, bailing2Name, ""},
		{func(c *model.Config) { c.QKNorm, c.NormHead, c.SharedExperts = true, false, 0 }, qwen3Name, ""},
		{func(c *model.Config) { c.QKNorm = true }, "", "qwen3_moe: norm_head"},
		{func(c *model.Config) { c.Router = model.Sigmoid }, "", "bailing_moe_v2: norm_head"},
		{func(c *model.Config) { c.TiedEmbeddings = true }, "", "bailing_moe: tied_embeddings"},
		{func(c *model.Config) { c.TopK = 1 }, "", "bailing_moe: norm_top_k"},
		{func(c *model.Config) { c.RotaryDims = 2 }, "", "bailing_moe: rotary_dims"},
		{func(c *model.Config) { c.DenseLayers, c.DenseFFN = 2, 4 }, "", "bailing_moe: dense_layers"},
	} {
		cfg := base
		c.change(&cfg)
		got, err := firstFit(cfg)
		if got != c.family || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q, %v; wanted %q, %q", got, err, c.family, c.says)
		}
	}
}

func TestShareOfAHeadIsExact(t *testing.T) {
	for head := 2; head <= 512; head += 2 {
		for turned := 2; turned <= head; turned += 2 {
			c := model.Config{HeadDim: head, RotaryDims: turned}
			if n, ok := fraction(head, shareOf(c)); !ok || n != turned {
				t.Fatalf("%d of %d come back as %d", turned, head, n)
			}
		}
	}
}

// FuzzConfig: no file makes the reader panic or take much memory, and what it
// accepts is a valid model that the family can express and writes back.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"ling-lite", "ling-plus", "ling-mini-2", "qwen3-30b-a3b"} {
		f.Add(published(f, name))
	}
	f.Add(change(f, "qwen3-30b-a3b", map[string]string{"rope_theta": "", "rope_parameters": `{"rope_theta":1e6}`, "num_hidden_layers": "4096", "num_experts": "65536"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseConfig("config.json", data)
		if err != nil {
			return
		}
		if err := d.Config.Validate(); err != nil {
			t.Fatalf("accepted %+v: %v", d.Config, err)
		}
		fam, err := familyNamed("", d.Family)
		if err != nil || fam.unfit(d.Config) != nil {
			return // such as a model of dense layers alone
		}
		origin := Origin{Family: d.Family, Positions: d.Positions, Carried: d.Carried}
		again, err := parseConfig("config.json", Model{Config: d.Config, Origin: &origin, EndToken: -1}.smallFiles(fam, Options{Dtype: FP32})[configName])
		if err != nil || fmt.Sprint(again.Config) != fmt.Sprint(d.Config) {
			t.Fatalf("%+v came back as %+v, %v", d.Config, again.Config, err)
		}
	})
}

// FuzzIndex: what is accepted names files beside the index only.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":12},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../secret.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex("index", data)
		if err != nil {
			return
		}
		for _, name := range x.files() {
			if filepath.Base(name) != name || !strings.HasSuffix(name, extension) {
				t.Fatalf("accepted %q", name)
			}
		}
	})
}

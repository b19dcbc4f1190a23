package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

func publishedPlan(t testing.TB, name string) []byte { return config(t, "plan", name) }

// The weights' files of these models have so many parameters.
func TestPlansCountPublishedWeights(t *testing.T) {
	for name, want := range map[string]int64{
		"llama-2-7b": 6_738_415_616, "llama-3-70b": 70_553_706_496, "llama-3.2-1b": 1_235_814_400, "mistral-7b": 7_241_732_096,
		"qwen2-7b": 7_615_616_512, "qwen3-0.6b": 596_049_920, "qwen1.5-moe-a2.7b": 14_315_784_192, "mixtral-8x7b": 46_702_792_704,
		"deepseek-v2-lite": 15_706_484_224, "deepseek-v3": 671_026_419_200, "olmoe-1b-7b": 6_919_161_856, "gpt-oss-120b": 116_829_156_672,
		"gpt2": 124_439_808, "gpt-neox-20b": 20_554_567_680,
	} {
		p, err := parsePlan(name, publishedPlan(t, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := p.Decoder.Parameters().Total(); got != want || len(p.Unread) > 0 {
			t.Errorf("%s has %d parameters, its files %d; not read: %v", name, got, want, p.Unread)
		}
	}
}

// What can be imported counts the same by its configuration and by its plan.
func TestPlansOfModelsThatCanBeImported(t *testing.T) {
	for _, name := range []string{"ling-lite", "ling-plus", "ling-mini-2", "qwen3-30b-a3b"} {
		d, err := parseConfig(name, published(t, name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePlan(name, published(t, name))
		if err != nil {
			t.Fatal(err)
		}
		want := d.Config.Count()
		if n := p.Decoder.Parameters(); n.Total() != want.Total || n.Active() != want.Active || len(p.Unread) > 0 {
			t.Errorf("%s has %d parameters, %d active, want %d and %d; not read: %v", name, n.Total(), n.Active(), want.Total, want.Active, p.Unread)
		}
		c := anatomy.Convention{Sequence: 4096}
		if got, want := p.Decoder.Work(c).Forward(), d.Config.FLOPs(4096).Forward; math.Abs(got/want-1) > 1e-12 {
			t.Errorf("%s: %g operations, want %g", name, got, want)
		}
		if plus, err := model.Preset(name); err == nil && anatomy.Of(plus).Parameters().Total() != want.Total {
			t.Errorf("%s is not the preset", name)
		}
	}
}

func TestF8TiedInAConfig(t *testing.T) {
	total := func(tied string) int64 {
		p, err := parsePlan("config.json", changedPlan(t, "qwen3-0.6b", map[string]string{"tie_word_embeddings": tied}))
		if err != nil {
			t.Fatal(err)
		}
		return p.Decoder.Parameters().Total()
	}
	if got := total("false") - total("true"); got != 155_582_464 {
		t.Errorf("the difference is %d", got)
	}
}

// changedPlan replaces fields; the value "" takes one out.
func changedPlan(t testing.TB, name string, fields map[string]string) []byte {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(publishedPlan(t, name), &all); err != nil {
		t.Fatal(err)
	}
	for field, value := range fields {
		if all[field] = json.RawMessage(value); value == "" {
			delete(all, field)
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPlansOfVariants(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields map[string]string
		holds  func(d anatomy.Decoder) bool
	}{
		{"mistral-7b", nil, func(d anatomy.Decoder) bool { return d.Last().Attention.Window == 4096 }},
		{"mixtral-8x7b", nil, func(d anatomy.Decoder) bool { return d.Last().Attention.Window == 0 }},
		{"qwen2-7b", nil, func(d anatomy.Decoder) bool { return len(d.Layers) == 1 && d.Last().Attention.Window == 0 }},
		{"qwen2-7b", map[string]string{"use_sliding_window": "true", "max_window_layers": "20"},
			func(d anatomy.Decoder) bool {
				return len(d.Layers) == 2 && d.Layers[0].Count == 20 && d.Layers[0].Attention.Window == 0 && d.Last().Attention.Window == 131072
			}},
		{"gpt-oss-120b", nil, func(d anatomy.Decoder) bool {
			return len(d.Layers) == 36 && d.Layers[0].Attention.Window == 128 && d.Last().Attention.Window == 0
		}},
		{"deepseek-v3", nil, func(d anatomy.Decoder) bool { return d.MTP == 1 && d.Layers[0].Count == 3 }},
		{"deepseek-v3", map[string]string{"n_routed_experts": "null"}, func(d anatomy.Decoder) bool { return len(d.Layers) == 1 && d.Last().Experts == nil }},
		{"qwen1.5-moe-a2.7b", map[string]string{"decoder_sparse_step": "2", "mlp_only_layers": "[1]"}, func(d anatomy.Decoder) bool {
			return len(d.Layers) == 22 && d.Layers[0].Count == 3 && d.Last().Experts != nil
		}},
		{"qwen3-0.6b", map[string]string{"head_dim": ""}, func(d anatomy.Decoder) bool { return d.Last().Attention.HeadDim == 128 }},
		{"gpt2", map[string]string{"n_inner": "1000"}, func(d anatomy.Decoder) bool { return d.Last().MLP.Width == 1000 }},
		{"llama-2-7b", map[string]string{"architectures": ""}, func(d anatomy.Decoder) bool { return d.Depth() == 32 }},
	} {
		p, err := parsePlan("config.json", changedPlan(t, c.name, c.fields))
		if err != nil || !c.holds(p.Decoder) {
			t.Errorf("%s with %v is %+v: %v", c.name, c.fields, p.Decoder, err)
		}
	}
}

// Fields that nobody knows are told of: they may change sizes.
func TestPlanTellsWhatItDoesNotKnow(t *testing.T) {
	p, err := parsePlan("config.json", changedPlan(t, "llama-2-7b", map[string]string{"num_experts": "8", "more": "1", "nothing": "null"}))
	if err != nil || !slices.Equal(p.Unread, []string{"more", "num_experts"}) {
		t.Errorf("%v, %v", p.Unread, err)
	}
}

func TestPlansRefused(t *testing.T) {
	for _, c := range []struct{ from, field, value, says string }{
		{"llama-2-7b", "architectures", `["GemmaForCausalLM"]`, `architectures "[\"GemmaForCausalLM\"]": is no architecture whose arithmetic is known; known are LlamaForCausalLM, Mistral`},
		{"llama-2-7b", "architectures", `[]`, ""},
		{"llama-2-7b", "hidden_size", ``, "hidden_size: is missing"},
		{"llama-2-7b", "num_hidden_layers", `0`, "num_hidden_layers"},
		{"llama-2-7b", "num_hidden_layers", `1000000000`, "out of range"},
		{"llama-2-7b", "num_attention_heads", `0`, "does not divide the width"},
		{"llama-2-7b", "hidden_size", `-1`, "hidden_size \"-1\": is not positive"},
		{"llama-2-7b", "num_attention_heads", `33`, "does not divide the width"},
		{"llama-2-7b", "num_key_value_heads", `64`, "key/value heads"},
		{"llama-2-7b", "vocab_size", `-1`, "vocabulary"},
		{"llama-2-7b", "hidden_size", `"wide"`, "is not a whole number"},
		{"mixtral-8x7b", "num_experts_per_tok", `9`, `chosen experts "9"`},
		{"deepseek-v3", "n_routed_experts", `70000`, "experts"},
		{"deepseek-v3", "kv_lora_rank", ``, "kv_lora_rank"},
		{"deepseek-v3", "moe_layer_freq", `0`, "moe_layer_freq"},
		{"qwen1.5-moe-a2.7b", "decoder_sparse_step", `0`, "decoder_sparse_step"},
		{"qwen1.5-moe-a2.7b", "shared_expert_intermediate_size", ``, "shared_expert_intermediate_size"},
		{"gpt2", "n_head", `7`, "n_head"},
		{"gpt2", "add_cross_attention", `true`, "not counted"},
		{"gpt-oss-120b", "layer_types", `["linear_attention"]`, "layer_types"},
	} {
		_, err := parsePlan("config.json", changedPlan(t, c.from, map[string]string{c.field: c.value}))
		if c.says == "" {
			if err != nil {
				t.Errorf("%s %s %s: %v", c.from, c.field, c.value, err)
			}
			continue
		}
		var in *fault.Input
		if !errors.As(err, &in) || !strings.Contains(fmt.Sprint(err), c.says) || !strings.HasPrefix(in.Where, "config.json") {
			t.Errorf("%s %s %s: %v", c.from, c.field, c.value, err)
		}
	}
	if _, err := parsePlan("config.json", []byte(`{"model_type":"bailing_moe"}`)); err == nil || !strings.Contains(err.Error(), "known are") {
		t.Errorf("%v", err)
	}
	if _, err := parsePlan("config.json", change(t, "ling-plus", map[string]string{"use_bias": ""})); err == nil || !strings.Contains(err.Error(), "use_bias") {
		t.Errorf("%v", err)
	}
}

// FuzzPlan: no file makes the reader panic or count below nothing.
func FuzzPlan(f *testing.F) {
	names, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(names) < 15 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePlan("config.json", data)
		if err != nil {
			var in *fault.Input
			if !errors.As(err, &in) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q", err)
			}
			return
		}
		n := p.Decoder.Parameters()
		if n.Active() < 1 || n.Total() < n.Active() {
			t.Fatalf("%d parameters, %d active", n.Total(), n.Active())
		}
		if w := p.Decoder.Work(anatomy.Convention{Sequence: 4096}); !(w.Forward() > 0) || math.IsInf(w.Forward(), 0) {
			t.Fatalf("%g operations", w.Forward())
		}
	})
}

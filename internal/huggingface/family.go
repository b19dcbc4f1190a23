package huggingface

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// family is one architecture of the Hugging Face world.
type family struct {
	name         string
	types        []string // model_type in config.json; the first is written
	architecture string
	names        names
	words        map[string]string // field of config.json by field of model.Config
	carried      []string          // its own fields that do not change what is computed

	// read takes a configuration; faults are kept in the fields.
	read func(f *fields) model.Config
	// unfit names the first thing of a model that the family cannot express.
	unfit func(c model.Config) error
	// write adds the fields of config.json that describe the model.
	write func(c model.Config, o object)
	// generation says whether the family comes with a generation_config.json.
	generation bool
	// grouped says whether its reader takes the experts of a layer as one tensor.
	grouped bool
}

// families lists what can be read and written; the first that can express a model
// is the one it is exported to unless somebody says otherwise.
func families() []family { return []family{bailing(), bailing2(), qwen3()} }

// Families lists the names of families.
func Families() []string {
	var out []string
	for _, fam := range families() {
		out = append(out, fam.name)
	}
	return out
}

// familyNamed finds a family by name.
func familyNamed(where, name string) (family, error) {
	for _, fam := range families() {
		if fam.name == name {
			return fam, nil
		}
	}
	return family{}, &fault.Input{Where: where, Value: name, Problem: "is no family that can be written", Next: "choose one of " + strings.Join(Families(), ", ")}
}

// firstFit is the first family that can express a model, or the reasons why none
// can.
func firstFit(c model.Config) (string, error) {
	var reasons []string
	for _, fam := range families() {
		err := fam.unfit(c)
		if err == nil {
			return fam.name, nil
		}
		reasons = append(reasons, fam.name+": "+err.Error())
	}
	return "", &fault.Input{Where: "model", Value: c.Name, Problem: "fits no family (" + strings.Join(reasons, "; ") + ")",
		Next: "docs/formats/huggingface.md lists what each family can hold"}
}

// unfitField is a setting of a model that a family cannot express.
func unfitField(fam, field string, value any, why string) error {
	return &fault.Input{Where: field, Value: fmt.Sprint(value), Problem: fam + " " + why, Next: "choose another family"}
}

// demand is a setting that a family needs.
type demand struct {
	ok    bool
	field string // of model.Config, as a run file spells it
	value any
	why   string
}

func firstUnfit(fam string, demands []demand) error {
	for _, d := range demands {
		if !d.ok {
			return unfitField(fam, d.field, d.value, d.why)
		}
	}
	return nil
}

// commonWords are the fields that all families spell alike.
func commonWords() map[string]string {
	return map[string]string{
		"vocab": "vocab_size", "dim": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
		"kv_heads": "num_key_value_heads", "experts": "num_experts", "top_k": "num_experts_per_tok", "expert_ffn": "moe_intermediate_size",
		"dense_ffn": "intermediate_size", "norm_eps": "rms_norm_eps", "init_std": "initializer_range", "expert_groups": "n_group",
		"top_groups": "topk_group", "routed_scale": "routed_scaling_factor", "shared_experts": "num_shared_experts",
		"dense_layers": "first_k_dense_replace", "rotary_dims": "partial_rotary_factor",
	}
}

// readCommon takes what all families spell alike.
func readCommon(f *fields) model.Config {
	c := model.Config{
		Vocab: f.int("vocab_size"), Dim: f.int("hidden_size"), Layers: f.int("num_hidden_layers"),
		Heads: f.int("num_attention_heads"), KVHeads: f.int("num_key_value_heads"),
		TopK: f.int("num_experts_per_tok"), ExpertFFN: f.int("moe_intermediate_size"),
		NormEps: f.real("rms_norm_eps"), InitStd: f.realOr("initializer_range", 0.02),
		TiedEmbeddings: f.boolOr("tie_word_embeddings", false),
		// No config.json says how the router is trained: arXiv 2503.05139, section 3.4.
		BalanceCoef: 0.015, ZCoef: 1e-4,
	}
	if c.HeadDim = f.intOr("head_dim", 0); c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Dim / c.Heads // as the families' code
	}
	f.oneOf("hidden_act", "silu")
	f.zero("attention_dropout")
	f.off("use_sliding_window", false)
	f.off("is_encoder_decoder", false)
	return c
}

// writeCommon writes what all families spell alike.
func writeCommon(c model.Config, o object) {
	o.set("vocab_size", c.Vocab)
	o.set("hidden_size", c.Dim)
	o.set("num_hidden_layers", c.Layers)
	o.set("num_attention_heads", c.Heads)
	o.set("num_key_value_heads", c.KVHeads)
	o.set("head_dim", c.HeadDim)
	o.set("num_experts", c.Experts)
	o.set("num_experts_per_tok", c.TopK)
	o.set("moe_intermediate_size", c.ExpertFFN)
	o.set("rms_norm_eps", c.NormEps)
	o.set("initializer_range", c.InitStd)
	o.set("tie_word_embeddings", c.TiedEmbeddings)
	o.set("norm_topk_prob", c.NormTopK)
	o.set("rope_theta", c.RopeTheta)
	o.set("rope_scaling", nil)
	o.set("hidden_act", "silu")
	o.set("attention_dropout", 0)
	if c.DenseLayers > 0 {
		o.set("intermediate_size", c.DenseFFN)
	} else {
		o.setUnless("intermediate_size", c.ExpertFFN) // wanted, and read by nothing
	}
}

// readRope takes the base of rotary positions. The library's version 5 puts it into
// an object of its own, together with the kind and the share that turns.
func readRope(f *fields, c *model.Config) (share float64) {
	share = f.realOr("partial_rotary_factor", 1)
	f.absent("rope_scaling")
	var rope struct {
		Theta   *float64 `json:"rope_theta"`
		Kind    *string  `json:"rope_type"`
		OldKind *string  `json:"type"`
		Share   *float64 `json:"partial_rotary_factor"`
	}
	if !f.get("rope_parameters", &rope, "an object with rope_theta and rope_type") {
		c.RopeTheta = f.real("rope_theta")
		return share
	}
	known := []string{"rope_theta", "rope_type", "type", "partial_rotary_factor"}
	if err := eachMember(f.at["rope_parameters"], func(key string, _ json.RawMessage) error {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%s is not known", key)
		}
		return nil
	}); err != nil {
		f.refuse("rope_parameters", err.Error(), "docs/formats/huggingface.md lists what can be read")
	}
	for _, kind := range []*string{rope.Kind, rope.OldKind} {
		if kind != nil && *kind != "default" {
			f.unsupported("rope_parameters")
		}
	}
	if rope.Share != nil {
		share = *rope.Share
	}
	if rope.Theta == nil {
		c.RopeTheta = f.real("rope_theta")
		return share
	}
	c.RopeTheta = *rope.Theta
	if theta := f.realOr("rope_theta", *rope.Theta); theta != *rope.Theta {
		f.refuse("rope_theta", fmt.Sprintf("contradicts rope_parameters, which has %v", *rope.Theta), "keep one of them")
	}
	return share
}

// withoutBearing are fields that do not change what any family computes.
func withoutBearing() []string {
	return []string{
		"_name_or_path", "auto_map", "transformers_version", "_attn_implementation", "attn_implementation", "use_cache",
		"bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "tokenizer_class", "unk_token_id",
		"output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "pretraining_tp",
		"max_window_layers", "sliding_window", // use_sliding_window is off
		"gradient_checkpointing", "problem_type", "id2label", "label2id", "chunk_size_feed_forward",
	}
}

// notGivenBack are carried fields that an export writes itself or leaves out.
func notGivenBack() []string {
	return []string{"_name_or_path", "auto_map", "transformers_version", "_attn_implementation", "attn_implementation", "gradient_checkpointing"}
}

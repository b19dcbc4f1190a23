package huggingface

import (
	"math"

	"github.com/mistura-project/mistura/internal/model"
)

const qwen3Name = "qwen3_moe"

// qwen3 is Qwen3-MoE, as the transformers library computes it
// (models/qwen3_moe/modeling_qwen3_moe.py).
func qwen3() family {
	words := commonWords()
	words["dense_layers"] = "mlp_only_layers"
	return family{
		name: qwen3Name, types: []string{"qwen3_moe"}, architecture: "Qwen3MoeForCausalLM",
		names: qwen3Names(), words: words,
		// The loss coefficient is of another convention than ours: over all layers
		// together, and top_k at perfect balance.
		carried: []string{"router_aux_loss_coef", "intermediate_size"},
		read:    readQwen3, unfit: unfitQwen3, write: writeQwen3, generation: true, grouped: true,
	}
}

func readQwen3(f *fields) model.Config {
	c := readCommon(f)
	c.Experts = expertsOf(f)
	c.Router, c.QKNorm = model.Softmax, true
	c.NormTopK = f.boolOr("norm_topk_prob", false)
	f.off("attention_bias", false)
	if f.intOr("decoder_sparse_step", 1) != 1 {
		f.unsupported("decoder_sparse_step")
	}
	if c.DenseLayers = leading(f); c.DenseLayers > 0 {
		c.DenseFFN = f.int("intermediate_size")
	}
	if share := readRope(f, &c); share != 1 {
		f.unsupported("partial_rotary_factor")
	}
	return c
}

// expertsOf takes the number of experts, which newer versions of the library write
// under another name too.
func expertsOf(f *fields) int {
	if _, ok := f.at["num_experts"]; !ok {
		return f.int("num_local_experts")
	}
	n := f.int("num_experts")
	if other := f.intOr("num_local_experts", n); other != n {
		f.refuse("num_local_experts", "contradicts num_experts", "keep one of them")
	}
	return n
}

// leading is the number of layers without experts, which must be the first ones.
func leading(f *fields) int {
	var dense []int
	f.get("mlp_only_layers", &dense, "a list of layers")
	for i, layer := range dense {
		if layer != i {
			f.refuse("mlp_only_layers", "names other layers than the first ones, and the engine's dense layers come first", "docs/formats/huggingface.md lists what can be read")
		}
	}
	return len(dense)
}

func unfitQwen3(c model.Config) error {
	return firstUnfit(qwen3Name, []demand{
		{c.Router == model.Softmax, "router", c.Router, "has a softmax router"},
		{c.QKNorm, "qk_norm", c.QKNorm, "has a norm of queries and keys"},
		{!c.NormHead, "norm_head", c.NormHead, "has no NormHead"},
		{c.SharedExperts == 0, "shared_experts", c.SharedExperts, "has no shared experts"},
		{c.Turned() == c.HeadDim, "rotary_dims", c.RotaryDims, "turns whole heads"},
		{!c.Grouped(), "expert_groups", c.ExpertGroups, "has no groups of experts"},
		{!c.RouterBias, "router_bias", c.RouterBias, "has no bias of the router"},
		{c.RoutedScale == 0 || c.RoutedScale == 1, "routed_scale", c.RoutedScale, "does not scale the experts' weights"},
		{c.DenseLayers < c.Layers, "dense_layers", c.DenseLayers, "has experts in some layer"},
	})
}

func writeQwen3(c model.Config, o object) {
	writeCommon(c, o)
	dense := []int{}
	for l := range c.DenseLayers {
		dense = append(dense, l)
	}
	o.set("mlp_only_layers", dense)
	o.set("decoder_sparse_step", 1)
	o.set("attention_bias", false)
	o.set("use_sliding_window", false)
	o.setUnless("output_router_logits", false)
}

func qwen3Names() names {
	return names{
		embedding: "model.embed_tokens.weight", norm: "model.norm.weight", head: "lm_head.weight",
		layer: "model.layers.%d.", attentionNorm: "input_layernorm.weight", mlpNorm: "post_attention_layernorm.weight",
		query: "self_attn.q_proj.weight", key: "self_attn.k_proj.weight", value: "self_attn.v_proj.weight", output: "self_attn.o_proj.weight",
		queryNorm: "self_attn.q_norm.weight", keyNorm: "self_attn.k_norm.weight",
		router: "mlp.gate.weight",
	}
}

// shareOf is the share of a head that turns, such that int(share·head) is exact:
// the quotient of two whole numbers may lie just below.
func shareOf(c model.Config) float64 {
	share := float64(c.Turned()) / float64(c.HeadDim)
	for int(float64(c.HeadDim)*share) < c.Turned() {
		share = math.Nextafter(share, 1)
	}
	return share
}

package huggingface

import (
	"github.com/mistura-project/mistura/internal/model"
)

// The code that the names and conventions below are from is what its makers
// publish beside the weights: inclusionAI/Ling, models/modeling_bailing_moe.py, and
// inclusionAI/Ling-V2, models/modeling_bailing_moe_v2.py.

const (
	bailingName  = "bailing_moe"
	bailing2Name = "bailing_moe_v2"
)

// bailing is Ling-lite and Ling-plus: softmax router, NormHead.
func bailing() family {
	words := commonWords()
	words["head_dim"] = "head_dim"
	return family{
		name: bailingName, types: []string{"bailing_moe"}, architecture: "BailingMoeForCausalLM",
		names: bailingNames(), words: words,
		// The two dropouts are read by nothing in that code. The width of dense layers
		// is of no account where there are none.
		carried: []string{"embedding_dropout", "output_dropout", "intermediate_size"},
		read:    readBailing, unfit: unfitBailing, write: writeBailing,
	}
}

func readBailing(f *fields) model.Config {
	c := readBailingBase(f)
	c.Experts, c.SharedExperts = f.int("num_experts"), f.intOr("num_shared_experts", 0)
	f.off("use_bias", true)
	c.Router = model.Softmax
	// With one expert a token that code does not scale its weight.
	c.NormTopK = f.boolOr("norm_topk_prob", true) && c.TopK > 1
	c.NormHead = f.boolOr("norm_head", false)
	if share := readRope(f, &c); share != 1 {
		f.unsupported("partial_rotary_factor")
	}
	if c.NormHead && c.TiedEmbeddings {
		f.refuse("tie_word_embeddings", "with norm_head the family's code alters the embedding when it first runs", "give a model with an output head of its own")
	}
	return c
}

// readBailingBase takes what both versions spell alike.
func readBailingBase(f *fields) model.Config {
	c := readCommon(f)
	if c.DenseLayers = f.intOr("first_k_dense_replace", 0); c.DenseLayers > 0 {
		c.DenseFFN = f.int("intermediate_size")
	}
	f.off("use_qkv_bias", false)
	f.off("norm_softmax", false)
	f.off("multi_gate", false)
	f.off("using_split_qkv_in_self_attention", false)
	f.zero("num_nextn_predict_layers")
	if !f.boolOr("use_rmsnorm", true) {
		f.unsupported("use_rmsnorm")
	}
	return c
}

func unfitBailing(c model.Config) error {
	return firstUnfit(bailingName, append(unfitBailingBase(c), []demand{
		{c.Router == model.Softmax, "router", c.Router, "has a softmax router"},
		{!c.QKNorm, "qk_norm", c.QKNorm, "has no norm of queries and keys"},
		{c.Turned() == c.HeadDim, "rotary_dims", c.RotaryDims, "turns whole heads"},
		{!c.Grouped(), "expert_groups", c.ExpertGroups, "has no groups of experts"},
		{!c.RouterBias, "router_bias", c.RouterBias, "has no bias of the router"},
		{c.RoutedScale == 0 || c.RoutedScale == 1, "routed_scale", c.RoutedScale, "does not scale the experts' weights"},
		{!c.NormHead || !c.TiedEmbeddings, "tied_embeddings", c.TiedEmbeddings, "cannot have both NormHead and tied embeddings"},
	}...))
}

func unfitBailingBase(c model.Config) []demand {
	return []demand{
		{c.DenseLayers < c.Layers, "dense_layers", c.DenseLayers, "has experts in some layer"},
		{!c.NormTopK || c.TopK > 1, "norm_top_k", c.NormTopK, "does not scale the weight of a single expert (top_k is 1)"},
	}
}

func writeBailing(c model.Config, o object) {
	writeBailingBase(c, o)
	o.set("norm_head", c.NormHead)
	o.set("auto_map", map[string]string{
		"AutoConfig":           "configuration_bailing_moe.BailingMoeConfig",
		"AutoModel":            "modeling_bailing_moe.BailingMoeModel",
		"AutoModelForCausalLM": "modeling_bailing_moe.BailingMoeForCausalLM",
	})
}

// writeBailingBase writes what both versions spell alike. Of num_shared_experts
// that code takes 0 for an MLP of width 0; null is none.
func writeBailingBase(c model.Config, o object) {
	writeCommon(c, o)
	o.set("first_k_dense_replace", c.DenseLayers)
	o.set("num_shared_experts", nil)
	if c.SharedExperts > 0 {
		o.set("num_shared_experts", c.SharedExperts)
	}
	o.set("use_bias", false)
	o.set("use_qkv_bias", false)
	o.setUnless("embedding_dropout", 0)
	o.setUnless("output_dropout", 0)
	o.setUnless("output_router_logits", false)
	o.setUnless("pad_token_id", nil) // that code's default lies outside of small vocabularies
}

// bailing2 is Ling 2.0: sigmoid router with a bias and groups, norm of queries and
// keys, half of each head turned.
func bailing2() family {
	return family{
		name: bailing2Name, types: []string{"bailing_moe", "bailing_moe_v2"}, architecture: "BailingMoeV2ForCausalLM",
		names: bailingNames(), words: commonWords(),
		carried: []string{"embedding_dropout", "output_dropout", "intermediate_size", "mtp_loss_scaling_factor"},
		read:    readBailing2, unfit: unfitBailing2, write: writeBailing2, generation: true,
	}
}

func readBailing2(f *fields) model.Config {
	c := readBailingBase(f)
	c.Experts, c.SharedExperts = f.int("num_experts"), f.intOr("num_shared_experts", 0)
	f.off("use_bias", false)
	c.Router, c.QKNorm = model.Sigmoid, f.bool("use_qk_norm")
	c.RouterBias = f.bool("moe_router_enable_expert_bias")
	c.NormTopK = c.TopK > 1 // that code always scales the weights of several
	if !f.boolOr("norm_topk_prob", true) && c.TopK > 1 {
		f.unsupported("norm_topk_prob")
	}
	if scale := f.real("routed_scaling_factor"); scale != 1 {
		c.RoutedScale = scale
	}
	readGroups(f, &c)
	f.oneOf("score_function", "sigmoid")
	f.oneOf("scoring_func", "sigmoid")
	f.oneOf("topk_method", "noaux_tc")
	f.oneOf("router_dtype", "fp32", "float32") // the engine's router is fp32 in any case
	f.off("norm_head", false)
	if width := f.intOr("moe_shared_expert_intermediate_size", c.ExpertFFN); width != c.ExpertFFN && c.SharedExperts > 0 {
		f.refuse("moe_shared_expert_intermediate_size", "is not moe_intermediate_size, and the engine's shared experts are as wide as the others", "only equal widths can be read")
	}
	readTurned(f, &c, readRope(f, &c))
	return c
}

func readGroups(f *fields, c *model.Config) {
	groups, top := f.int("n_group"), f.int("topk_group")
	if groups <= 1 {
		return
	}
	c.ExpertGroups, c.TopGroups = groups, top
	if c.Experts < 2*groups {
		f.refuse("n_group", "leaves groups of one expert, of which the family's code wants two", "use fewer groups")
	}
}

// readTurned takes how many elements of a head turn, which two fields may say.
func readTurned(f *fields, c *model.Config, share float64) {
	turned, ok := fraction(c.HeadDim, share)
	if !ok || turned < 2 || turned > c.HeadDim {
		f.refuse("partial_rotary_factor", "turns no part of a head", "use a number above 0 and at most 1")
		return
	}
	if said := f.intOr("rotary_dim", turned); said != turned {
		f.refuse("rotary_dim", "contradicts partial_rotary_factor", "keep one of them")
	}
	if turned < c.HeadDim {
		c.RotaryDims = turned
	}
}

func unfitBailing2(c model.Config) error {
	return firstUnfit(bailing2Name, append(unfitBailingBase(c), []demand{
		{c.Router == model.Sigmoid, "router", c.Router, "has a sigmoid router"},
		{!c.NormHead, "norm_head", c.NormHead, "has no NormHead"},
		{c.NormTopK || c.TopK == 1, "norm_top_k", c.NormTopK, "always scales the weights of the chosen experts to sum 1"},
		{!c.Grouped() || c.Experts >= 2*c.ExpertGroups, "expert_groups", c.ExpertGroups, "wants two experts or more in a group"},
		{c.Experts >= 2, "experts", c.Experts, "wants two experts or more"},
	}...))
}

func writeBailing2(c model.Config, o object) {
	writeBailingBase(c, o)
	o.set("use_qk_norm", c.QKNorm)
	o.set("moe_router_enable_expert_bias", c.RouterBias)
	o.set("routed_scaling_factor", scaleOf(c))
	o.set("score_function", "sigmoid")
	o.set("router_dtype", "fp32")
	o.set("n_group", max(1, c.ExpertGroups))
	o.set("topk_group", 1)
	if c.Grouped() {
		o.set("topk_group", c.TopGroups)
	}
	o.set("partial_rotary_factor", shareOf(c))
	o.set("num_nextn_predict_layers", 0)
	o.setUnless("mtp_loss_scaling_factor", 0)
	if c.SharedExperts > 0 {
		o.set("moe_shared_expert_intermediate_size", c.ExpertFFN)
	}
	o.setUnless("eos_token_id", nil)
	o.set("auto_map", map[string]string{
		"AutoConfig":           "configuration_bailing_moe_v2.BailingMoeV2Config",
		"AutoModel":            "modeling_bailing_moe_v2.BailingMoeV2Model",
		"AutoModelForCausalLM": "modeling_bailing_moe_v2.BailingMoeV2ForCausalLM",
	})
}

// scaleOf writes out the scale of routed experts.
func scaleOf(c model.Config) float64 {
	if c.RoutedScale == 0 {
		return 1
	}
	return c.RoutedScale
}

// bailingNames are the names of both versions' tensors.
func bailingNames() names {
	return names{
		embedding: "model.word_embeddings.weight", norm: "model.norm.weight", head: "lm_head.weight",
		layer: "model.layers.%d.", attentionNorm: "input_layernorm.weight", mlpNorm: "post_attention_layernorm.weight",
		queryKeyValue: "attention.query_key_value.weight", output: "attention.dense.weight",
		queryNorm: "attention.query_layernorm.weight", keyNorm: "attention.key_layernorm.weight",
		router: "mlp.gate.weight", bias: "mlp.gate.expert_bias", shared: "mlp.shared_experts.",
	}
}

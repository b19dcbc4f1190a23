package huggingface

import (
	"slices"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// usual is what most architectures spell alike: RMSNorm, and attention whose heads
// are of equal parts of the width unless the file says otherwise.
func usual(f *fields) (anatomy.Decoder, anatomy.Layer) {
	d := anatomy.Decoder{Vocab: f.int("vocab_size"), Hidden: f.int("hidden_size"), Tied: f.boolOr("tie_word_embeddings", false)}
	heads := f.int("num_attention_heads")
	a := anatomy.Attention{Heads: heads, KVHeads: f.intOr("num_key_value_heads", heads), HeadDim: f.intOr("head_dim", 0)}
	if a.HeadDim == 0 {
		a.HeadDim = headDim(f, d.Hidden, heads)
	}
	return d, anatomy.Layer{Attention: a, Norms: 2}
}

// headDim is the width by the heads, as the library's code divides.
func headDim(f *fields, hidden, heads int) int {
	if hidden < 1 {
		f.refuse("hidden_size", "is not positive", "give the width of the stream")
		return 0
	}
	if heads < 1 || hidden%heads != 0 {
		f.refuse("num_attention_heads", "does not divide the width, and no head_dim is said", "add head_dim to the file")
		return 0
	}
	return hidden / heads
}

// gated is the MLP of three matrices.
func gated(width int) anatomy.MLP { return anatomy.MLP{Width: width, Gated: true} }

// alike gives all layers of a file one shape, but for windows.
func alike(f *fields, d *anatomy.Decoder, l anatomy.Layer) {
	window := f.windows(func(int) bool { return false })
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer { return windowed(l, window(i)) })
}

func windowed(l anatomy.Layer, window int) anatomy.Layer {
	l.Attention.Window = window
	return l
}

// windows gives each layer its window. The list layer_types says it for each layer;
// without, the architecture does.
func (f *fields) windows(usually func(i int) bool) func(i int) int {
	window := f.intOr("sliding_window", 0)
	var kinds []string
	if f.get("layer_types", &kinds, "a list of kinds of attention") {
		usually = func(i int) bool { return i < len(kinds) && kinds[i] == "sliding_attention" }
		for _, kind := range kinds {
			if !slices.Contains([]string{"full_attention", "sliding_attention"}, kind) {
				f.refuse("layer_types", "has a kind of attention that is not counted here", "full_attention and sliding_attention are")
			}
		}
	}
	return func(i int) int {
		if usually(i) {
			return window
		}
		return 0
	}
}

func planLlama(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.Attention.InBias = f.boolOr("attention_bias", false)
	l.Attention.OutBias = l.Attention.InBias
	l.MLP = gated(f.int("intermediate_size"))
	l.MLP.Bias = f.boolOr("mlp_bias", false)
	alike(f, &d, l)
	return d
}

// planMistral: all layers have the window, if there is one.
func planMistral(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.MLP = gated(f.int("intermediate_size"))
	everywhere(f, &d, l)
	return d
}

func everywhere(f *fields, d *anatomy.Decoder, l anatomy.Layer) {
	window := f.windows(func(int) bool { return true })
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer { return windowed(l, window(i)) })
}

// fromLayer are Qwen's windows, of the layers from max_window_layers on.
func fromLayer(f *fields) func(i int) int {
	on, from := f.boolOr("use_sliding_window", false), f.intOr("max_window_layers", 28)
	window := f.windows(func(i int) bool { return on && i >= from })
	return func(i int) int {
		if !on {
			return 0
		}
		return window(i)
	}
}

func planQwen2(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.Attention.InBias = true
	l.MLP = gated(f.int("intermediate_size"))
	window := fromLayer(f)
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer { return windowed(l, window(i)) })
	return d
}

func planQwen3(f *fields) anatomy.Decoder {
	f.otherwise("head_dim", "128")
	d, l := usual(f)
	l.Attention.QKNorm = anatomy.HeadQKNorm
	l.Attention.InBias = f.boolOr("attention_bias", false)
	l.Attention.OutBias = l.Attention.InBias
	l.MLP = gated(f.int("intermediate_size"))
	window := fromLayer(f)
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer { return windowed(l, window(i)) })
	return d
}

// otherwise puts in what the library takes for a field that is not there.
func (f *fields) otherwise(field, value string) {
	if raw, ok := f.at[field]; !ok || string(raw) == "null" {
		f.at[field] = []byte(value)
	}
}

// planQwen2MoE: a shared expert behind a gate of its own.
func planQwen2MoE(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.Attention.InBias = f.boolOr("qkv_bias", true)
	e := qwenExperts(f)
	e.Shared, e.SharedGate = gated(f.int("shared_expert_intermediate_size")), true
	qwenLayers(f, &d, l, e)
	return d
}

func planQwen3MoE(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.Attention.QKNorm = anatomy.HeadQKNorm
	l.Attention.InBias = f.boolOr("attention_bias", false)
	l.Attention.OutBias = l.Attention.InBias
	qwenLayers(f, &d, l, qwenExperts(f))
	return d
}

func qwenExperts(f *fields) anatomy.Experts {
	return anatomy.Experts{Count: expertsOf(f), TopK: f.int("num_experts_per_tok"), Each: gated(f.int("moe_intermediate_size"))}
}

// qwenLayers: every decoder_sparse_step-th layer has experts unless it is listed.
func qwenLayers(f *fields, d *anatomy.Decoder, l anatomy.Layer, e anatomy.Experts) {
	step := f.intOr("decoder_sparse_step", 1)
	if step < 1 {
		f.refuse("decoder_sparse_step", "is not positive", "use 1 for experts in every layer")
		return
	}
	var dense []int
	f.get("mlp_only_layers", &dense, "a list of layers")
	if step > 1 || len(dense) > 0 {
		l.MLP = gated(f.int("intermediate_size"))
	} else {
		f.intOr("intermediate_size", 0) // of no layer
	}
	sparse := l
	sparse.MLP, sparse.Experts = anatomy.MLP{}, &e
	window := fromLayer(f)
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer {
		if (i+1)%step != 0 || slices.Contains(dense, i) {
			return windowed(l, window(i))
		}
		return windowed(sparse, window(i))
	})
}

// planMixtral: the width of an expert stands where others have that of the MLP.
func planMixtral(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.Experts = &anatomy.Experts{Count: f.int("num_local_experts"), TopK: f.int("num_experts_per_tok"), Each: gated(f.int("intermediate_size"))}
	everywhere(f, &d, l)
	return d
}

// planOLMoE: queries are normed all heads together, and so are keys.
func planOLMoE(f *fields) anatomy.Decoder {
	d, l := usual(f)
	l.Attention.QKNorm = anatomy.WidthQKNorm
	l.Attention.InBias = f.boolOr("attention_bias", false)
	l.Attention.OutBias = l.Attention.InBias
	l.Experts = &anatomy.Experts{Count: f.int("num_experts"), TopK: f.int("num_experts_per_tok"), Each: gated(f.int("intermediate_size"))}
	alike(f, &d, l)
	return d
}

func planDeepSeek2(f *fields) anatomy.Decoder { return planDeepSeek(f, "greedy") }

func planDeepSeek3(f *fields) anatomy.Decoder {
	d := planDeepSeek(f, "noaux_tc")
	d.MTP = f.intOr("num_nextn_predict_layers", 0)
	return d
}

// planDeepSeek: latent attention, leading dense layers, experts in every
// moe_layer_freq-th of the others. Without n_routed_experts all layers are dense.
func planDeepSeek(f *fields, method string) anatomy.Decoder {
	d := anatomy.Decoder{Vocab: f.int("vocab_size"), Hidden: f.int("hidden_size"), Tied: f.boolOr("tie_word_embeddings", false)}
	a := anatomy.Attention{Heads: f.int("num_attention_heads"), Latent: &anatomy.Latent{
		QueryRank: f.intOr("q_lora_rank", 0), KVRank: f.int("kv_lora_rank"),
		Nope: f.int("qk_nope_head_dim"), Rope: f.int("qk_rope_head_dim"), Value: f.int("v_head_dim"),
	}}
	f.carry([]string{"num_key_value_heads", "head_dim", "qk_head_dim"}) // of no tensor
	a.InBias = f.boolOr("attention_bias", false)
	a.OutBias = a.InBias
	l := anatomy.Layer{Attention: a, Norms: 2}
	dense, sparse := l, l
	layers, first, freq := f.int("num_hidden_layers"), f.intOr("first_k_dense_replace", 0), f.intOr("moe_layer_freq", 1)
	if count := f.intOr("n_routed_experts", 0); count > 0 {
		width := f.int("moe_intermediate_size")
		e := &anatomy.Experts{Count: count, TopK: f.int("num_experts_per_tok"), Each: gated(width)}
		e.Shared = f.sharedExperts("n_shared_experts", width)
		e.Correction = f.textOr("topk_method", method) == "noaux_tc"
		sparse.Experts = e
	} else {
		first = layers
	}
	if freq < 1 {
		f.refuse("moe_layer_freq", "is not positive", "use 1 for experts in every layer")
		return d
	}
	dense.MLP = gated(f.intOr("intermediate_size", 0))
	d.Layers = f.runs(layers, func(i int) anatomy.Layer {
		if i < first || i%freq != 0 {
			return dense
		}
		return sparse
	})
	return d
}

// sharedExperts are shared experts of a width each as one MLP.
func (f *fields) sharedExperts(field string, width int) anatomy.MLP {
	n := f.intOr(field, 0)
	if n < 0 || n > 1<<16 || width < 0 || width > 1<<20 {
		f.refuse(field, "is out of range", "give the number of shared experts")
		return anatomy.MLP{}
	}
	return gated(n * width)
}

// planBailing: the makers' code turns biases on where the file does not say.
func planBailing(f *fields) anatomy.Decoder {
	f.bool("use_bias")
	return planLing(f, anatomy.Experts{}, anatomy.NoQKNorm)
}

// planBailing2: a bias of the router's choice and a norm of queries and keys, if said.
func planBailing2(f *fields) anatomy.Decoder {
	norm := anatomy.NoQKNorm
	if f.bool("use_qk_norm") {
		norm = anatomy.HeadQKNorm
	}
	d := planLing(f, anatomy.Experts{Correction: f.bool("moe_router_enable_expert_bias")}, norm)
	d.MTP = f.intOr("num_nextn_predict_layers", 0)
	return d
}

func planLing(f *fields, e anatomy.Experts, norm anatomy.QKNorm) anatomy.Decoder {
	d, l := usual(f)
	f.uncounted("use_bias")
	l.Attention.InBias, l.Attention.QKNorm = f.boolOr("use_qkv_bias", false), norm
	width := f.int("moe_intermediate_size")
	e.Count, e.TopK, e.Each = f.int("num_experts"), f.int("num_experts_per_tok"), gated(width)
	e.Shared = f.sharedExperts("num_shared_experts", f.intOr("moe_shared_expert_intermediate_size", width))
	first := f.intOr("first_k_dense_replace", 0)
	dense, sparse := l, l
	sparse.Experts = &e
	dense.MLP = gated(f.intOr("intermediate_size", 0))
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer {
		if i < first {
			return dense
		}
		return sparse
	})
	return d
}

// planGPTOSS: biases everywhere, a sink per head, a window in every other layer.
func planGPTOSS(f *fields) anatomy.Decoder {
	f.otherwise("head_dim", "64")
	d, l := usual(f)
	l.Attention.InBias, l.Attention.Sinks = f.boolOr("attention_bias", true), true
	l.Attention.OutBias = l.Attention.InBias
	each := gated(f.int("intermediate_size"))
	each.Bias = true
	l.Experts = &anatomy.Experts{Count: f.int("num_local_experts"), TopK: f.int("num_experts_per_tok"), Each: each, RouterBias: true}
	window := f.windows(func(i int) bool { return i%2 == 0 })
	d.Layers = f.runs(f.int("num_hidden_layers"), func(i int) anatomy.Layer { return windowed(l, window(i)) })
	return d
}

// planGPT2: learned positions, LayerNorm, biases, one matrix at both ends.
func planGPT2(f *fields) anatomy.Decoder {
	d := anatomy.Decoder{Vocab: f.int("vocab_size"), Hidden: f.int("n_embd"), Positions: f.int("n_positions"),
		Tied: f.boolOr("tie_word_embeddings", true), NormBias: true}
	heads := f.int("n_head")
	f.uncounted("add_cross_attention")
	width := f.intOr("n_inner", 0)
	if width == 0 {
		width = 4 * min(max(d.Hidden, 0), 1<<20)
	}
	d.Layers = f.runs(f.int("n_layer"), func(int) anatomy.Layer { return withBiases(heads, d.Hidden, width) })
	if heads < 1 || d.Hidden%heads != 0 {
		f.refuse("n_head", "does not divide the width", "give a number of heads that does")
	}
	return d
}

func planNeoX(f *fields) anatomy.Decoder {
	d := anatomy.Decoder{Vocab: f.int("vocab_size"), Hidden: f.int("hidden_size"), Tied: f.boolOr("tie_word_embeddings", false), NormBias: true}
	heads, width, bias := f.int("num_attention_heads"), f.int("intermediate_size"), f.boolOr("attention_bias", true)
	l := withBiases(heads, d.Hidden, width)
	l.Attention.HeadDim = headDim(f, d.Hidden, heads)
	l.Attention.InBias, l.Attention.OutBias = bias, bias
	alike(f, &d, l)
	return d
}

func withBiases(heads, hidden, width int) anatomy.Layer {
	return anatomy.Layer{
		Attention: anatomy.Attention{Heads: heads, KVHeads: heads, HeadDim: hidden / max(heads, 1), InBias: true, OutBias: true},
		MLP:       anatomy.MLP{Width: width, Bias: true}, Norms: 2,
	}
}

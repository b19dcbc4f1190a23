package huggingface

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
)

// maxLayers bounds what is written out layer by layer; anatomy has the same bound.
const maxLayers = 1 << 14

// Plan is a config.json as the arithmetic of its model: many more architectures than
// can be imported, for only sizes count.
type Plan struct {
	Decoder      anatomy.Decoder
	Architecture string
	Unread       []string // fields that nobody here knows; they may change sizes
}

// blueprint is an architecture as sizes.
type blueprint struct {
	architecture string
	types        []string // model_type, for files that name no architecture
	read         func(f *fields) anatomy.Decoder
}

// blueprints lists what can be counted. Sizes, biases and defaults are those of the
// library's classes of these names (transformers, models/*/modeling_*.py and
// configuration_*.py), or of the code that the makers publish with the weights.
func blueprints() []blueprint {
	return []blueprint{
		{"LlamaForCausalLM", []string{"llama"}, planLlama},
		{"MistralForCausalLM", []string{"mistral"}, planMistral},
		{"Qwen2ForCausalLM", []string{"qwen2"}, planQwen2},
		{"Qwen3ForCausalLM", []string{"qwen3"}, planQwen3},
		{"Qwen2MoeForCausalLM", []string{"qwen2_moe"}, planQwen2MoE},
		{"Qwen3MoeForCausalLM", []string{"qwen3_moe"}, planQwen3MoE},
		{"MixtralForCausalLM", []string{"mixtral"}, planMixtral},
		{"DeepseekV2ForCausalLM", []string{"deepseek_v2"}, planDeepSeek2},
		{"DeepseekV3ForCausalLM", []string{"deepseek_v3", "kimi_k2"}, planDeepSeek3},
		{"OlmoeForCausalLM", []string{"olmoe"}, planOLMoE},
		{"BailingMoeForCausalLM", nil, planBailing},
		{"BailingMoeV2ForCausalLM", []string{"bailing_moe_v2"}, planBailing2},
		{"GptOssForCausalLM", []string{"gpt_oss"}, planGPTOSS},
		{"GPT2LMHeadModel", []string{"gpt2"}, planGPT2},
		{"GPTNeoXForCausalLM", []string{"gpt_neox"}, planNeoX},
	}
}

// ReadPlan reads a config.json, or the one in a folder.
func ReadPlan(path string) (Plan, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, configName)
	}
	data, err := readSmall(path, maxConfigBytes)
	if err != nil {
		return Plan{}, err
	}
	p, err := parsePlan(path, data)
	p.Decoder.Name = nameFor(path, p.Architecture)
	return p, err
}

// parsePlan describes the model of a config.json. The file's name stands in errors.
func parsePlan(where string, data []byte) (Plan, error) {
	f, err := parseFields(where, data)
	if err != nil {
		return Plan{}, err
	}
	b, err := blueprintOf(f)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Decoder: b.read(f), Architecture: b.architecture}
	if f.err != nil {
		return Plan{}, f.err
	}
	if err := p.Decoder.Validate(); err != nil {
		return Plan{}, inFile(where, err)
	}
	f.carry(append(withoutBearing(), withoutSize()...))
	p.Unread = f.unasked()
	return p, nil
}

// inFile names the file before what the arithmetic finds wrong with a model.
func inFile(where string, err error) error {
	var in *fault.Input
	if !errors.As(err, &in) {
		return err
	}
	return &fault.Input{Where: where + ": " + in.Where, Value: in.Value, Problem: in.Problem, Next: in.Next}
}

func blueprintOf(f *fields) (blueprint, error) {
	kind := f.textOr("model_type", "")
	var architectures []string
	f.get("architectures", &architectures, "a list of names")
	if f.err != nil {
		return blueprint{}, f.err
	}
	var known []string
	for _, b := range blueprints() {
		if slices.Contains(architectures, b.architecture) || len(architectures) == 0 && slices.Contains(b.types, kind) {
			return b, nil
		}
		known = append(known, b.architecture)
	}
	field := "architectures"
	if len(architectures) == 0 && kind != "" {
		field = "model_type"
	}
	problem := "is no architecture whose arithmetic is known"
	if _, there := f.at[field]; !there {
		problem = "is missing"
	}
	return blueprint{}, f.bad(field, problem, "known are "+strings.Join(known, ", "))
}

// withoutSize are fields that change what is computed, and no size of it.
func withoutSize() []string {
	return []string{
		"rope_theta", "rope_scaling", "rope_parameters", "rope_interleave", "partial_rotary_factor", "rotary_dim", "rotary_pct", "rotary_emb_base",
		"max_position_embeddings", "initial_context_length", "torch_dtype", "dtype", "quantization_config", "initializer_range",
		"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "hidden_act", "activation_function", "swiglu_limit", "clip_qkv",
		"attention_dropout", "attention_probs_dropout_prob", "hidden_dropout", "hidden_dropout_prob", "classifier_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "embedding_dropout", "output_dropout",
		"norm_topk_prob", "router_aux_loss_coef", "aux_loss_alpha", "seq_aux", "router_jitter_noise", "scoring_func", "score_function",
		"n_group", "topk_group", "routed_scaling_factor", "router_dtype", "ep_size", "mtp_loss_scaling_factor", "experts_per_token",
		"norm_head", "norm_softmax", "use_rmsnorm", "use_parallel_residual", "use_sliding_window", "max_window_layers", "sliding_window", "layer_types",
		"n_ctx", "reorder_and_upcast_attn", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "summary_activation", "summary_first_dropout",
		"summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params", "is_encoder_decoder", "num_experts_per_tok",
		"using_split_qkv_in_self_attention", "multi_gate", "token_dropping", "z_loss_coefficient", "rope_type",
	}
}

// unasked are the fields that nobody asked for, those that are null apart.
func (f *fields) unasked() []string {
	var names []string
	for field, raw := range f.at {
		if !f.asked[field] && string(raw) != "null" {
			names = append(names, shorten(field))
		}
	}
	slices.Sort(names)
	return names
}

// uncounted refuses a switch that would add what is not counted here.
func (f *fields) uncounted(field string) {
	if f.boolOr(field, false) {
		f.refuse(field, "adds tensors that are not counted here", "set it to false if the model has none of them")
	}
}

// runs makes the layers of a model of some variants.
func (f *fields) runs(layers int, variant func(i int) anatomy.Layer) []anatomy.Run {
	if layers < 1 || layers > maxLayers {
		f.refuse(f.layersField(), fmt.Sprintf("is out of range, 1 to %d", maxLayers), "give the number of layers")
		return nil
	}
	var out []anatomy.Run
	for i := range layers {
		l := variant(i)
		if last := len(out) - 1; last >= 0 && out[last].Layer == l {
			out[last].Count++
		} else {
			out = append(out, anatomy.Run{Count: 1, Layer: l})
		}
	}
	return out
}

// layersField is what the file calls the number of layers.
func (f *fields) layersField() string {
	if _, ok := f.at["n_layer"]; ok {
		return "n_layer"
	}
	return "num_hidden_layers"
}

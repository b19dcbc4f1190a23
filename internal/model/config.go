package model

// The kinds of router.
const (
	Softmax = "softmax" // scores are a softmax over all experts
	Sigmoid = "sigmoid" // every expert is scored by itself
)

// Config describes one decoder-only Mixture-of-Experts model. It is a plain
// value; two equal configurations have the same tensors in the same order.
type Config struct {
	// Name is for people; it has no effect on the model.
	Name string `yaml:"name" json:"name"`

	Vocab  int `yaml:"vocab" json:"vocab"`   // number of tokens
	Dim    int `yaml:"dim" json:"dim"`       // width of the residual stream
	Layers int `yaml:"layers" json:"layers"` // all of them, dense ones included

	Heads   int `yaml:"heads" json:"heads"`       // query heads
	KVHeads int `yaml:"kv_heads" json:"kv_heads"` // key and value heads; divides Heads
	HeadDim int `yaml:"head_dim" json:"head_dim"` // elements of a head; even, because RoPE turns pairs

	DenseLayers int `yaml:"dense_layers" json:"dense_layers"` // leading layers with one dense MLP instead of experts; 0: none
	DenseFFN    int `yaml:"dense_ffn" json:"dense_ffn"`       // inner width of that MLP; unused without dense layers

	Experts       int `yaml:"experts" json:"experts"`               // routed experts of each other layer
	TopK          int `yaml:"top_k" json:"top_k"`                   // experts that each token visits
	ExpertFFN     int `yaml:"expert_ffn" json:"expert_ffn"`         // inner width of an expert
	SharedExperts int `yaml:"shared_experts" json:"shared_experts"` // experts every token visits, as one MLP of width ExpertFFN*SharedExperts; 0: none

	RopeTheta  float64 `yaml:"rope_theta" json:"rope_theta"`   // base of the rotary position angles
	RotaryDims int     `yaml:"rotary_dims" json:"rotary_dims"` // leading elements of a head that turn; even; 0: all of them
	NormEps    float64 `yaml:"norm_eps" json:"norm_eps"`       // added to the mean square in RMSNorm

	Router       string  `yaml:"router" json:"router"`               // Softmax or Sigmoid
	NormTopK     bool    `yaml:"norm_top_k" json:"norm_top_k"`       // the chosen experts' weights are scaled to sum 1
	ExpertGroups int     `yaml:"expert_groups" json:"expert_groups"` // equal runs of experts of which a token visits TopGroups only; 0 or 1: no groups
	TopGroups    int     `yaml:"top_groups" json:"top_groups"`       // groups that a token may visit; unused without groups
	RoutedScale  float64 `yaml:"routed_scale" json:"routed_scale"`   // the weights of the chosen experts are multiplied by it; 0: they are not
	RouterBias   bool    `yaml:"router_bias" json:"router_bias"`     // a number per expert, added to its score when experts are chosen and at no other time
	BiasRate     float64 `yaml:"bias_rate" json:"bias_rate"`         // by which that number moves after each step, up for experts with fewer tokens than the mean; 0: never

	RoutingWarmupTokens int `yaml:"routing_warmup_tokens" json:"routing_warmup_tokens"` // tokens over which noise gives way to the router's logits; 0: no noise
	RoutingWarmupWindow int `yaml:"routing_warmup_window" json:"routing_warmup_window"` // steps over which the noise's mean and deviation are averaged; unused without warm-up

	QKNorm         bool `yaml:"qk_norm" json:"qk_norm"`                 // RMSNorm of each query and key head
	NormHead       bool `yaml:"norm_head" json:"norm_head"`             // head columns divided by their L2 norm over the vocabulary
	TiedEmbeddings bool `yaml:"tied_embeddings" json:"tied_embeddings"` // head and embedding are one tensor

	BalanceCoef float64 `yaml:"balance_coef" json:"balance_coef"` // weight of the balance loss, which is 1.0 at perfect balance; 0: off
	ZCoef       float64 `yaml:"z_coef" json:"z_coef"`             // weight of the router z-loss; 0: off

	InitStd float64 `yaml:"init_std" json:"init_std"` // standard deviation of initial weights
}

// TrainingKeys are the keys, as a run file spells them, that say how a model is
// trained. All others say which model it is.
func TrainingKeys() []string {
	return []string{"name", "bias_rate", "routing_warmup_tokens", "routing_warmup_window", "balance_coef", "z_coef", "init_std"}
}

// QueryWidth is the width of all query heads together.
func (c Config) QueryWidth() int { return c.Heads * c.HeadDim }

// KVWidth is the width of all key heads together, and of all value heads.
func (c Config) KVWidth() int { return c.KVHeads * c.HeadDim }

// SharedFFN is the inner width of the MLP that stands for the shared experts.
func (c Config) SharedFFN() int { return c.ExpertFFN * c.SharedExperts }

// Turned is the number of leading elements of each query and key head that rotary
// positions turn.
func (c Config) Turned() int {
	if c.RotaryDims == 0 {
		return c.HeadDim
	}
	return c.RotaryDims
}

// Grouped reports whether tokens choose groups of experts before experts.
func (c Config) Grouped() bool { return c.ExpertGroups > 1 }

// Dense reports whether a layer has one dense MLP instead of experts.
func (c Config) Dense(layer int) bool { return layer < c.DenseLayers }

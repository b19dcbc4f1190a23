package engine

import (
	"fmt"

	"github.com/mistura-project/mistura/internal/model"
)

// Shape letters: N tokens of a pass, T tokens of a sequence, D dim, H query
// heads, G key and value heads, d head dim, E experts, K top-k, F inner width of an
// MLP, V vocabulary.

// swiglu is one gated MLP, down · (silu(gate · x) * (up · x)).
type swiglu struct {
	gateUp []float32 // [2F, D], gate above up
	down   []float32 // [D, F]
	width  int       // F; 0: there is none
}

// layerWeights are views of one layer's tensors in a flat vector.
type layerWeights struct {
	attnNorm     []float32 // [D]
	qkv          []float32 // [(H+2G)d, D], q above k above v
	o            []float32 // [D, Hd]
	qNorm, kNorm []float32 // [d], nil without QKNorm
	mlpNorm      []float32 // [D]
	router       []float32 // [E, D], nil in a dense layer
	routerBias   []float32 // [E], nil without RouterBias
	routerStats  []float32 // mean and variance of the logits; nil without routing warm-up
	experts      []swiglu  // nil in a dense layer
	wide         swiglu    // the dense MLP or the shared experts: every token passes it
}

// modelWeights are views of all tensors in a flat vector; of parameters or of
// their gradients.
type modelWeights struct {
	embedding []float32 // [V, D]
	layers    []layerWeights
	norm      []float32 // [D]
	head      []float32 // [V, D], the embedding when tied
}

// viewWeights cuts flat, which must have cfg.Size() elements, into tensors.
func viewWeights(cfg model.Config, flat []float32) modelWeights {
	v := viewer{flat: flat, tensors: map[string]model.Tensor{}}
	for _, t := range cfg.Tensors() {
		v.tensors[t.Name] = t
	}
	w := modelWeights{embedding: v.one("embedding"), norm: v.one("norm")}
	w.head = w.embedding
	if !cfg.TiedEmbeddings {
		w.head = v.one("head")
	}
	for l := range cfg.Layers {
		w.layers = append(w.layers, v.layer(cfg, l))
	}
	return w
}

// viewer finds tensors by name.
type viewer struct {
	flat    []float32
	tensors map[string]model.Tensor
}

// one is the tensor of that name, or nil.
func (v viewer) one(name string) []float32 { return v.span(name, name) }

// span is everything from the first tensor to the last, or nil.
func (v viewer) span(first, last string) []float32 {
	a, ok := v.tensors[first]
	if !ok {
		return nil
	}
	b := v.tensors[last]
	end := b.Offset + b.Size()
	return v.flat[a.Offset:end:end]
}

func (v viewer) layer(cfg model.Config, l int) layerWeights {
	name := func(s string) string { return fmt.Sprintf("layers.%d.%s", l, s) }
	w := layerWeights{
		attnNorm: v.one(name("attention.norm")),
		qkv:      v.span(name("attention.q"), name("attention.v")),
		o:        v.one(name("attention.o")),
		qNorm:    v.one(name("attention.q_norm")),
		kNorm:    v.one(name("attention.k_norm")),
		mlpNorm:  v.one(name("mlp.norm")),
		router:   v.one(name("router")),

		routerBias:  v.one(name("router_bias")),
		routerStats: v.one(name("router_stats")),
	}
	if cfg.Dense(l) {
		w.wide = v.swiglu(name("dense."), cfg.DenseFFN)
		return w
	}
	if cfg.SharedExperts > 0 {
		w.wide = v.swiglu(name("shared."), cfg.SharedFFN())
	}
	for e := range cfg.Experts {
		w.experts = append(w.experts, v.swiglu(name(fmt.Sprintf("experts.%d.", e)), cfg.ExpertFFN))
	}
	return w
}

func (v viewer) swiglu(prefix string, width int) swiglu {
	return swiglu{
		gateUp: v.span(prefix+"gate", prefix+"up"),
		down:   v.one(prefix + "down"),
		width:  width,
	}
}

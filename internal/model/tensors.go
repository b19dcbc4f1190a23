package model

import "fmt"

// builder collects tensors one behind the other.
type builder struct {
	tensors []Tensor
	offset  int
}

func (b *builder) add(t Tensor) {
	t.Offset = b.offset
	b.offset += t.Size()
	b.tensors = append(b.tensors, t)
}

// Tensors lists every parameter tensor in model order, offsets filled. Shapes
// are [out, in] for matrices. The order is part of the checkpoint format:
//
//	embedding
//	layers.L.attention.norm, .q, .k, .v, .o, with QKNorm .q_norm, .k_norm
//	layers.L.mlp.norm
//	layers.L.dense.gate, .up, .down            in a dense layer
//	layers.L.router                            in every other layer
//	layers.L.router_bias                       with RouterBias
//	layers.L.router_stats                      with routing warm-up: mean and variance of the logits
//	layers.L.experts.E.gate, .up, .down
//	layers.L.shared.gate, .up, .down           with shared experts
//	norm
//	head                                       unless tied
//
// Tensors that one product can use together (q, k, v; gate, up) are neighbours.
func (c Config) Tensors() []Tensor {
	b := &builder{}
	b.add(Tensor{Name: "embedding", Shape: []int{c.Vocab, c.Dim}, Kind: Embedding, Layer: -1, Expert: -1})
	for l := range c.Layers {
		c.addAttention(b, l)
		c.addMLP(b, l)
	}
	b.add(norm("norm", -1, c.Dim))
	if !c.TiedEmbeddings {
		b.add(Tensor{Name: "head", Shape: []int{c.Vocab, c.Dim}, Kind: Head, Layer: -1, Expert: -1, Decay: true})
	}
	return b.tensors
}

// Size is the number of elements of all tensors together.
func (c Config) Size() int {
	n := 0
	for _, t := range c.Tensors() {
		n += t.Size()
	}
	return n
}

func norm(name string, layer, width int) Tensor {
	return Tensor{Name: name, Shape: []int{width}, Kind: Norm, Layer: layer, Expert: -1}
}

func state(name string, layer, width int) Tensor {
	return Tensor{Name: name, Shape: []int{width}, Kind: State, Layer: layer, Expert: -1}
}

func (c Config) addAttention(b *builder, l int) {
	prefix := fmt.Sprintf("layers.%d.attention.", l)
	b.add(norm(prefix+"norm", l, c.Dim))
	for _, m := range []struct {
		name    string
		out, in int
	}{
		{"q", c.QueryWidth(), c.Dim},
		{"k", c.KVWidth(), c.Dim},
		{"v", c.KVWidth(), c.Dim},
		{"o", c.Dim, c.QueryWidth()},
	} {
		b.add(Tensor{Name: prefix + m.name, Shape: []int{m.out, m.in}, Kind: Attention, Layer: l, Expert: -1, Decay: true})
	}
	if c.QKNorm {
		b.add(norm(prefix+"q_norm", l, c.HeadDim))
		b.add(norm(prefix+"k_norm", l, c.HeadDim))
	}
}

func (c Config) addMLP(b *builder, l int) {
	prefix := fmt.Sprintf("layers.%d.", l)
	b.add(norm(prefix+"mlp.norm", l, c.Dim))
	if c.Dense(l) {
		b.addSwiGLU(prefix+"dense.", Dense, l, -1, c.Dim, c.DenseFFN)
		return
	}
	b.add(Tensor{Name: prefix + "router", Shape: []int{c.Experts, c.Dim}, Kind: Router, Layer: l, Expert: -1, Decay: true})
	if c.RouterBias {
		b.add(state(prefix+"router_bias", l, c.Experts))
	}
	if c.RoutingWarmupTokens > 0 {
		b.add(state(prefix+"router_stats", l, 2))
	}
	for e := range c.Experts {
		b.addSwiGLU(fmt.Sprintf("%sexperts.%d.", prefix, e), Expert, l, e, c.Dim, c.ExpertFFN)
	}
	if c.SharedExperts > 0 {
		b.addSwiGLU(prefix+"shared.", Shared, l, -1, c.Dim, c.SharedFFN())
	}
}

func (b *builder) addSwiGLU(prefix string, kind Kind, layer, expert, dim, width int) {
	for _, m := range []struct {
		name    string
		out, in int
	}{{"gate", width, dim}, {"up", width, dim}, {"down", dim, width}} {
		b.add(Tensor{Name: prefix + m.name, Shape: []int{m.out, m.in}, Kind: kind, Layer: layer, Expert: expert, Decay: true})
	}
}

package model

// Count is the number of parameters.
type Count struct {
	Total  int64          // all of them
	Active int64          // those that one token uses: TopK of the experts, everything else
	ByKind map[Kind]int64 // all of them by kind
}

// Count counts parameters. A tied head counts once, as embedding.
func (c Config) Count() Count {
	n := Count{ByKind: map[Kind]int64{}}
	for _, t := range c.Tensors() {
		n.ByKind[t.Kind] += int64(t.Size())
		n.Total += int64(t.Size())
	}
	idle := int64(0)
	if n.ByKind[Expert] > 0 {
		idle = n.ByKind[Expert] / int64(c.Experts) * int64(c.Experts-c.TopK)
	}
	n.Active = n.Total - idle
	return n
}

// FLOPs are the floating-point operations of one token, a multiply-add being
// two. Only products count: norms, activations and softmax do not.
type FLOPs struct {
	Projections float64 // q, k, v and output of attention, forward
	Scores      float64 // queries by keys and weights by values, forward, averaged over a causal sequence
	Router      float64 // forward
	Experts     float64 // the TopK routed experts, forward
	Shared      float64 // shared experts, forward
	Dense       float64 // MLPs of dense layers, forward
	Head        float64 // forward

	Forward  float64 // sum of the above
	Backward float64 // gradients of inputs and weights: twice the forward pass; recomputed scores are not counted
}

// FLOPs counts the work of one token in a sequence of seq tokens.
func (c Config) FLOPs(seq int) FLOPs {
	dim, layers := float64(c.Dim), float64(c.Layers)
	query, kv := float64(c.QueryWidth()), float64(c.KVWidth())
	moe := float64(c.Layers - c.DenseLayers)
	swiglu := func(width int) float64 { return 2 * 3 * dim * float64(width) }
	f := FLOPs{
		Projections: layers * 2 * dim * (2*query + 2*kv),
		Scores:      layers * 2 * 2 * query * float64(seq+1) / 2,
		Router:      moe * 2 * dim * float64(c.Experts),
		Experts:     moe * float64(c.TopK) * swiglu(c.ExpertFFN),
		Shared:      moe * swiglu(c.SharedFFN()),
		Dense:       float64(c.DenseLayers) * swiglu(c.DenseFFN),
		Head:        2 * dim * float64(c.Vocab),
	}
	f.Forward = f.Projections + f.Scores + f.Router + f.Experts + f.Shared + f.Dense + f.Head
	f.Backward = 2 * f.Forward
	return f
}

// Bytes is the memory that training state takes, all of it fp32. Activations
// are not part of it: they depend on the batch and are the engine's to state.
type Bytes struct {
	Weights, Gradients, Moments int64 // Moments are AdamW's two
}

// Total is the sum.
func (b Bytes) Total() int64 { return b.Weights + b.Gradients + b.Moments }

// Bytes counts the memory of weights, gradients and AdamW's moments.
func (c Config) Bytes() Bytes {
	one := 4 * int64(c.Size())
	return Bytes{Weights: one, Gradients: one, Moments: 2 * one}
}

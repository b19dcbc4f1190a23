package anatomy

import "fmt"

// Recompute says what of a layer is computed again in the backward pass.
type Recompute string

// The modes, after Korthikanti et al. (arXiv 2205.05198), section 5.
const (
	NoRecompute Recompute = "none"      // everything is kept
	Selective   Recompute = "selective" // softmax and what it takes are computed again
	FullLayers  Recompute = "full"      // a layer keeps its input
	// Operators keeps a layer's input and what costs most to compute: what attention gives, and every
	// second product (torchtitan's selective "op", without what no gradient needs).
	Operators Recompute = "operators"
)

// Recomputes lists the modes of Korthikanti et al., the one that keeps most first.
func Recomputes() []Recompute { return []Recompute{NoRecompute, Selective, FullLayers} }

// Keeping says under which conditions activations are kept for the backward pass.
type Keeping struct {
	Layout    Layout
	Recompute Recompute
	Sequence  int  // tokens
	Element   int  // bytes of an activation
	Unfused   bool // attention writes its scores out, which a fused kernel does not
	Dropout   bool // with masks of a byte, in attention and after each block
	// Narrow is the bytes in which inputs of products are kept where those are narrower: of fp8 1, for
	// the backward pass multiplies in it too (Micikevicius et al., arXiv 2209.05433). 0: Element.
	Narrow int
	// Weighed experts multiply their inner vectors with the router's weight, not their
	// output, which then no gradient needs (Megatron-Core from 0.12 on).
	Weighed bool
}

// narrow is the bytes of an input of a product.
func (k Keeping) narrow() int {
	if k.Narrow == 0 {
		return k.Element
	}
	return k.Narrow
}

// Kept is memory that a token takes on one rank, of the tokens that the ranks of a
// tensor-parallel group share.
type Kept struct {
	Name    string  `json:"name"`
	Bytes   float64 `json:"bytes"`
	Formula string  `json:"formula"`
}

// Sum adds them up.
func Sum(kept []Kept) float64 {
	n := 0.0
	for _, k := range kept {
		n += k.Bytes
	}
	return n
}

// The parts of what a layer keeps.
const (
	KeptStream    = "inputs of norms and blocks"
	KeptAttention = "attention"
	KeptScores    = "scores"
	KeptMLP       = "MLP"
	KeptRouter    = "router"
	KeptExperts   = "experts"
	KeptShared    = "shared experts"
	KeptHead      = "head"
	KeptModules   = "MTP modules"
)

// whole is what is on every rank without sequence parallelism, split what
// tensor parallelism cuts anyway.
func (k Keeping) whole(name string, bytes term) Kept {
	if k.Layout.Whole {
		return Kept{name, float64(bytes.n), bytes.text}
	}
	return k.split(name, bytes)
}

func (k Keeping) split(name string, bytes term) Kept {
	if k.Layout.TP == 1 {
		return Kept{name, float64(bytes.n), bytes.text}
	}
	return Kept{name, float64(bytes.n) / float64(k.Layout.TP), fmt.Sprintf("(%s) / %d", bytes.text, k.Layout.TP)}
}

// Kept is what a layer keeps for each token: for the layer of GPT-3 with dropout and
// unfused attention equations 1 (no parallelism), 2 (tensor), 4 (and sequence) and
// table 2 (with recomputation) of Korthikanti et al., arXiv 2205.05198.
func (l Layer) Kept(hidden int, k Keeping) []Kept {
	if k.Recompute == FullLayers {
		return []Kept{k.whole(KeptStream, product(x(k.Element, "bytes"), x(hidden, "width")))}
	}
	if k.Recompute == Operators {
		return l.keptOperators(hidden, k)
	}
	streams := total(product(x(l.Norms, "norms"), x(k.Element, "bytes"), x(hidden, "width")), product(x(2, "blocks"), x(k.narrow(), "bytes"), x(hidden, "width")))
	masks := product(x(2, "masks"), x(hidden, "width")).when(k.Dropout)
	kept := []Kept{k.whole(KeptStream, total(streams, masks))}
	kept = append(kept, l.Attention.kept(k)...)
	if l.Experts == nil {
		return append(kept, k.split(KeptMLP, l.MLP.kept(k)))
	}
	return append(kept, l.Experts.kept(hidden, k)...)
}

// keptOperators are the layer's input, what attention gives, and of the products in their
// order, of queries, keys, values, attention's output, gate and inner vectors, every second from
// the first on. The last product's output is an input of nothing that has a gradient.
func (l Layer) keptOperators(hidden int, k Keeping) []Kept {
	element, a := x(k.Element, "bytes"), l.Attention
	kept := []Kept{k.whole(KeptStream, product(element, x(hidden, "width")))}
	keys := a.KVHeads
	if a.Latent != nil {
		keys = a.Heads
	}
	kept = append(kept, k.split(KeptAttention, total(
		product(element, x(a.Heads, "query heads"), x(a.QueryDim(), "each")),
		product(element, x(keys, "value heads"), x(a.ValueDim(), "each")),
		product(element, x(a.Heads, "heads' output"), x(a.ValueDim(), "each")),
	)), k.split(KeptScores, product(x(4, "bytes"), x(a.Heads, "heads"))))
	first := func(m MLP) term { return product(element, x(m.Width, "first inner vector")) }
	if l.Experts == nil {
		return append(kept, k.split(KeptMLP, first(l.MLP)))
	}
	kept = append(kept, k.split(KeptExperts, first(l.Experts.Each).times(x(l.Experts.TopK, "chosen"))))
	if l.Experts.Shared.Width > 0 {
		kept = append(kept, k.split(KeptShared, first(l.Experts.Shared)))
	}
	return kept
}

// kept are queries, keys and values, what comes out, and for the norms of latent
// vectors and of queries and keys both sides. What comes out is also a product's input:
// where that is narrower it is kept twice.
func (a Attention) kept(k Keeping) []Kept {
	element, keys := x(k.Element, "bytes"), a.KVHeads
	narrow := product(x(k.narrow(), "bytes"), x(a.Heads, "heads' output, narrow"), x(a.ValueDim(), "each")).when(k.narrow() != k.Element)
	if a.Latent != nil {
		keys = a.Heads
	}
	cut := total(
		product(element, x(a.Heads+keys, "query and key heads"), x(a.QueryDim(), "each")),
		product(element, x(keys, "value heads"), x(a.ValueDim(), "each")),
		product(element, x(a.Heads, "heads' output"), x(a.ValueDim(), "each")), narrow,
		product(element, x(a.Heads+keys, "heads before their norm"), x(a.QueryDim(), "each")).when(a.QKNorm != NoQKNorm),
	)
	kept := []Kept{k.split(KeptAttention, cut)}
	if m := a.Latent; m != nil {
		kept = append(kept, k.whole(KeptAttention, total(product(element, x(m.QueryRank+m.KVRank+m.Rope, "latent vectors")),
			product(x(k.narrow(), "bytes"), x(m.QueryRank+m.KVRank, "normed")))))
	}
	if k.Recompute == Selective {
		return kept
	}
	if !k.Unfused { // Dao et al., arXiv 2205.14135, section 3.1: one fp32 a row
		return append(kept, k.split(KeptScores, product(x(4, "bytes"), x(a.Heads, "heads"))))
	}
	bytes := x(k.Element, "bytes")
	if k.Dropout {
		bytes = x(2*k.Element+1, "bytes")
	}
	return append(kept, k.split(KeptScores, product(bytes, x(a.Heads, "heads"), x(k.Sequence, "keys"))))
}

// kept is what goes into the activation, and what comes out.
func (m MLP) kept(k Keeping) term {
	if m.matrices() == 0 {
		return term{}
	}
	if k.narrow() == k.Element {
		return product(x(k.Element, "bytes"), x(m.matrices(), "inner vectors"), x(m.Width, "inner"))
	}
	return total(product(x(k.Element, "bytes"), x(m.matrices()-1, "inner vectors"), x(m.Width, "inner")), product(x(k.narrow(), "bytes"), x(m.Width, "inner, narrow")))
}

// kept are the router's probabilities, and for each chosen expert its input, its
// inner vectors, and its output, which the router's weight multiplies unless it is
// Weighed. The equations are of dense layers; this part is ours. Tokens are sent evenly. With experts cut by
// etp their input is on all its ranks.
func (e Experts) kept(hidden int, k Keeping) []Kept {
	kept := []Kept{k.whole(KeptRouter, product(x(4, "bytes"), x(e.Count, "experts")))}
	out := k.Element
	if k.Weighed {
		out = 0
	}
	ends := product(x(k.narrow()+out, "bytes in and out"), x(hidden, "width")).times(x(k.Layout.ETP, "ranks of an expert"))
	kept = append(kept, k.split(KeptExperts, total(ends, e.Each.kept(k)).times(x(e.TopK, "chosen"))))
	if shared := e.Shared.kept(k); shared.n > 0 {
		kept = append(kept, k.split(KeptShared, shared))
	}
	return kept
}

// KeptAtEnds is what a stage keeps for each token outside of its layers: the last
// norm's and the head's input and the logits in fp32 (Korthikanti et al., section
// 4.3), for the model and each MTP module, and the mask after the embedding.
func (s Stage) KeptAtEnds(k Keeping) []Kept {
	var kept []Kept
	if s.First && k.Dropout {
		kept = append(kept, k.whole(KeptStream, product(x(s.Hidden, "mask"))))
	}
	if s.Final {
		heads := x(1+s.MTP, "heads")
		kept = append(kept, k.whole(KeptHead, product(heads, x(2*k.Element, "bytes of norm and head"), x(s.Hidden, "width"))),
			k.split(KeptHead, product(heads, x(4, "bytes"), x(s.Vocab, "tokens"))))
	}
	return kept
}

// KeptByModules is what the MTP modules keep for each token beside their heads: the
// stream and the embedding of the next token, both normed, side by side, and what a layer
// keeps (DeepSeek-V3, arXiv 2412.19437, section 2.2).
func (s Stage) KeptByModules(k Keeping) []Kept {
	if !s.Final || s.MTP == 0 {
		return nil
	}
	inputs := total(product(x(2, "norms"), x(k.Element, "bytes"), x(s.Hidden, "width")), product(x(2, "normed"), x(k.narrow(), "bytes"), x(s.Hidden, "width")))
	kept := append([]Kept{k.whole(KeptModules, inputs)}, s.Last().Kept(s.Hidden, k)...)
	for i := range kept {
		kept[i].Bytes *= float64(s.MTP)
		kept[i].Formula = fmt.Sprintf("%d modules × (%s)", s.MTP, kept[i].Formula)
	}
	return kept
}

// LayersKeep is what all layers of a stage keep for each token; with pipeline
// parallelism (1F1B) as much as the first stage of the whole model keeps, whatever
// the number of stages (Korthikanti et al., section 4.2.3).
func (s Stage) LayersKeep(k Keeping) float64 {
	n := 0.0
	for _, r := range s.Held {
		n += float64(r.Count) * Sum(r.Kept(s.Hidden, k))
	}
	return n
}

// Again is the work that the backward pass computes again: the forward pass of
// scores, or of whole layers. A fused kernel computes scores again in any case; that
// is in no count here.
func (s Stage) Again(mode Recompute, c Convention) float64 {
	n := 0.0
	for _, r := range s.Held {
		switch w := r.Work(s.Hidden, r.Count, c); mode {
		case Selective:
			n += w.Of(Scores).Forward
		case FullLayers:
			n += w.Forward()
		}
	}
	return n
}

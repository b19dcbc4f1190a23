package anatomy

import "fmt"

// Recompute says what of a layer is computed again in the backward pass.
type Recompute string

// The modes, after Korthikanti et al. (arXiv 2205.05198), section 5.
const (
	NoRecompute Recompute = "none"      // everything is kept
	Selective   Recompute = "selective" // softmax and what it takes are computed again
	FullLayers  Recompute = "full"      // a layer keeps its input
)

// Recomputes lists the modes, the one that keeps most first.
func Recomputes() []Recompute { return []Recompute{NoRecompute, Selective, FullLayers} }

// Keeping says under which conditions activations are kept for the backward pass.
type Keeping struct {
	Layout    Layout
	Recompute Recompute
	Sequence  int  // tokens
	Element   int  // bytes of an activation
	Unfused   bool // attention writes its scores out, which a fused kernel does not
	Dropout   bool // with masks of a byte, in attention and after each block
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
	streams := product(x(l.Norms+2, "norms and blocks"), x(k.Element, "bytes"), x(hidden, "width"))
	masks := product(x(2, "masks"), x(hidden, "width")).when(k.Dropout)
	kept := []Kept{k.whole(KeptStream, total(streams, masks))}
	kept = append(kept, l.Attention.kept(k)...)
	if l.Experts == nil {
		return append(kept, k.split(KeptMLP, l.MLP.kept(k)))
	}
	return append(kept, l.Experts.kept(hidden, k)...)
}

// kept are queries, keys and values, what comes out, and for the norms of latent
// vectors and of queries and keys both sides.
func (a Attention) kept(k Keeping) []Kept {
	element, keys := x(k.Element, "bytes"), a.KVHeads
	if a.Latent != nil {
		keys = a.Heads
	}
	cut := total(
		product(element, x(a.Heads+keys, "query and key heads"), x(a.QueryDim(), "each")),
		product(element, x(keys, "value heads"), x(a.ValueDim(), "each")),
		product(element, x(a.Heads, "heads' output"), x(a.ValueDim(), "each")),
		product(element, x(a.Heads+keys, "heads before their norm"), x(a.QueryDim(), "each")).when(a.QKNorm != NoQKNorm),
	)
	kept := []Kept{k.split(KeptAttention, cut)}
	if m := a.Latent; m != nil {
		kept = append(kept, k.whole(KeptAttention, product(element, x(2*m.QueryRank+2*m.KVRank+m.Rope, "latent vectors, and normed"))))
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
	return product(x(k.Element, "bytes"), x(m.matrices(), "inner vectors"), x(m.Width, "inner"))
}

// kept are the router's probabilities, and for each chosen expert its input, its
// inner vectors, and its output, which the router's weight multiplies. The equations
// are of dense layers; this part is ours. Tokens are sent evenly. With experts cut by
// etp their input is on all its ranks.
func (e Experts) kept(hidden int, k Keeping) []Kept {
	kept := []Kept{k.whole(KeptRouter, product(x(4, "bytes"), x(e.Count, "experts")))}
	ends := product(x(2*k.Element, "bytes in and out"), x(hidden, "width")).times(x(k.Layout.ETP, "ranks of an expert"))
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

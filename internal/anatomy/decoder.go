package anatomy

// Decoder is a decoder-only language model as its sizes. Widths are elements.
type Decoder struct {
	Name      string
	Vocab     int // rows of the embedding, as published
	Hidden    int // width of the residual stream
	Positions int // rows of a table of learned positions; 0: none
	Tied      bool
	NormBias  bool // norms have a bias beside their weight
	Layers    []Run
	MTP       int // modules that predict further tokens, each with a layer like the last (DeepSeek-V3, arXiv 2412.19437, section 2.2); 0: none
}

// Run is a number of equal layers, one behind the other.
type Run struct {
	Count int
	Layer
}

// Layer is attention and what follows it: one MLP, or experts.
type Layer struct {
	Attention Attention
	MLP       MLP      // of a dense layer
	Experts   *Experts // nil: the layer is dense
	Norms     int      // of the width of the stream: 2, or 4 where outputs are normed too
}

// Attention has heads of its own for keys and values or shares them; or all heads
// read one latent vector.
type Attention struct {
	Heads   int
	KVHeads int // unused with Latent
	HeadDim int // need not be Hidden/Heads; unused with Latent
	Latent  *Latent
	InBias  bool // of queries, keys and values; with Latent of the projections down
	OutBias bool
	QKNorm  QKNorm
	Window  int  // keys that a query sees at most, itself included; 0: all before it
	Sinks   bool // a learned number per head in the softmax (gpt-oss)
}

// QKNorm says whether queries and keys are normed.
type QKNorm int

// The kinds of norms of queries and keys.
const (
	NoQKNorm    QKNorm = iota
	HeadQKNorm         // each head by itself, one weight for all heads (Qwen3)
	WidthQKNorm        // all heads together (OLMoE)
)

// Latent is multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
type Latent struct {
	QueryRank int // width that queries are pressed through; 0: they are not
	KVRank    int // width of the latent vector of keys and values
	Nope      int // elements of a query or key head without position
	Rope      int // elements with; of keys one vector for all heads
	Value     int // elements of a value head
}

// MLP is two matrices, or three when gated. No width is no MLP.
type MLP struct {
	Width int
	Gated bool
	Bias  bool
}

// Experts are the MLPs of a layer of which each token visits some.
type Experts struct {
	Count      int
	TopK       int
	Each       MLP
	Shared     MLP  // all shared experts as one MLP; Width 0: none
	SharedGate bool // a weight of the shared experts for each token (Qwen2-MoE)
	RouterBias bool // learned, of the router's product (gpt-oss)
	Correction bool // a number per expert without gradient (DeepSeek-V3, Ling 2.0)
	State      int  // other elements without gradient: statistics of our routing warm-up
}

// QueryDim is the elements of a query or key head.
func (a Attention) QueryDim() int {
	if a.Latent != nil {
		return a.Latent.Nope + a.Latent.Rope
	}
	return a.HeadDim
}

// ValueDim is the elements of a value head.
func (a Attention) ValueDim() int {
	if a.Latent != nil {
		return a.Latent.Value
	}
	return a.HeadDim
}

// matrices of an MLP.
func (m MLP) matrices() int {
	switch {
	case m.Width == 0:
		return 0
	case m.Gated:
		return 3
	}
	return 2
}

// Depth is the number of layers, MTP modules apart.
func (d Decoder) Depth() int {
	n := 0
	for _, r := range d.Layers {
		n += r.Count
	}
	return n
}

// Last is the last layer, which MTP modules repeat.
func (d Decoder) Last() Layer { return d.Layers[len(d.Layers)-1].Layer }

// MegatronMultiple is what Megatron pads the vocabulary to a multiple of, times the
// tensor-parallel size (its flag --make-vocab-size-divisible-by).
const MegatronMultiple = 128

// Padded is the model with its vocabulary filled up to a multiple.
func (d Decoder) Padded(multiple int) Decoder {
	d.Vocab = (d.Vocab + multiple - 1) / multiple * multiple
	return d
}

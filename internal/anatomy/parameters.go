package anatomy

import "github.com/mistura-project/mistura/internal/model"

// Positions are learned positions; the other kinds of parameters are those of our
// own models.
const Positions model.Kind = "positions"

// Split says how the ranks of a tensor- and expert-parallel group hold a parameter.
type Split string

// The ways of holding. What is tensor-parallel is Megatron's choice (Shoeybi et al.,
// arXiv 1909.08053, section 3): matrices are cut, the second one's bias, norms, router
// and the projections down of latent attention are on every rank.
const (
	Tensor Split = "tensor" // cut over the tensor-parallel ranks
	Copied Split = "copied" // whole on every rank
	Routed Split = "routed" // each expert on one of the expert-parallel ranks, cut over the expert-tensor-parallel ones
)

// Part is some parameters of a model.
type Part struct {
	Kind    model.Kind `json:"kind"`
	Split   Split      `json:"split"`
	Count   int64      `json:"count"`
	Active  int64      `json:"active"` // of them, those that one token uses
	Formula string     `json:"formula"`
}

// Parameters are the parts of a model, or of a stage.
type Parameters []Part

// Total is the number of parameters.
func (p Parameters) Total() int64 {
	n := int64(0)
	for _, part := range p {
		n += part.Count
	}
	return n
}

// Active is the number that one token uses: of the routed experts its choice,
// everything else whole.
func (p Parameters) Active() int64 {
	n := int64(0)
	for _, part := range p {
		n += part.Active
	}
	return n
}

// Kind is the number of one kind.
func (p Parameters) Kind(k model.Kind) int64 {
	n := int64(0)
	for _, part := range p {
		if part.Kind == k {
			n += part.Count
		}
	}
	return n
}

// Held is the number of parameters by how ranks hold them.
type Held struct{ Tensor, Copied, Routed int64 }

// Held counts the parts by how they are held.
func (p Parameters) Held() Held {
	var h Held
	for _, part := range p {
		switch part.Split {
		case Tensor:
			h.Tensor += part.Count
		case Copied:
			h.Copied += part.Count
		case Routed:
			h.Routed += part.Count
		}
	}
	return h
}

// Rank is what one rank holds: dense parameters and those of experts, which have
// data-parallel groups of their own.
func (h Held) Rank(tp, ep, etp int) (dense, routed int64) {
	return h.Tensor/int64(tp) + h.Copied, h.Routed / (int64(ep) * int64(etp))
}

// Parameters are those of the model without MTP modules.
func (d Decoder) Parameters() Parameters { return d.Whole().Parameters() }

// Parameters are those of a stage without MTP modules. A copy of a tied embedding
// on the last stage counts, for it takes memory.
func (s Stage) Parameters() Parameters {
	rows := product(x(s.Vocab, "tokens"), x(s.Hidden, "width"))
	var p Parameters
	if s.First || s.copiesEmbedding() {
		p = p.with(model.Embedding, Tensor, rows)
	}
	if s.First {
		p = p.with(Positions, Copied, product(x(s.Positions, "positions"), x(s.Hidden, "width")))
	}
	for _, r := range kinds(s.Held, false) {
		p = append(p, r.parameters(s.Decoder, r.Count)...)
	}
	if s.Final {
		p = p.with(model.Norm, Copied, s.norm(1))
		p = p.with(model.Head, Tensor, rows.when(!s.Tied))
	}
	return p
}

// Modules are the parameters of the MTP modules, which share embedding and head
// with the model: two norms, a matrix from twice the width, a layer, a last norm.
func (d Decoder) Modules() Parameters {
	var p Parameters
	if d.MTP == 0 {
		return p
	}
	p = p.with(model.Dense, Tensor, product(x(2, "matrices"), x(d.Hidden, "width"), x(d.Hidden, "width")).times(x(d.MTP, "modules")))
	p = p.with(model.Norm, Copied, d.norm(3).times(x(d.MTP, "modules")))
	return append(p, d.Last().parameters(d, d.MTP)...)
}

// with adds a part unless it is nothing.
func (p Parameters) with(k model.Kind, s Split, t term) Parameters {
	if t.n == 0 {
		return p
	}
	return append(p, Part{Kind: k, Split: s, Count: t.n, Active: t.n, Formula: t.text})
}

// norm is a number of norms of the width of the stream.
func (d Decoder) norm(count int) term {
	t := product(x(count, "norms"), x(d.Hidden, "width"))
	if d.NormBias {
		t = t.times(x(2, "weight and bias"))
	}
	return t
}

// parameters are those of equal layers.
func (l Layer) parameters(d Decoder, count int) Parameters {
	layers := x(count, "layers")
	split, copied, norms := l.Attention.parameters(d.Hidden)
	var p Parameters
	p = p.with(model.Attention, Tensor, split.times(layers))
	p = p.with(model.Attention, Copied, copied.times(layers))
	p = p.with(model.Norm, Copied, total(d.norm(l.Norms), norms).times(layers))
	if l.Experts == nil {
		split, copied = l.MLP.parameters(d.Hidden)
		p = p.with(model.Dense, Tensor, split.times(layers))
		return p.with(model.Dense, Copied, copied.times(layers))
	}
	return append(p, l.Experts.parameters(d.Hidden, layers)...)
}

// parameters are what ranks cut, what all have, and norms of queries, keys and
// latent vectors.
func (a Attention) parameters(hidden int) (split, copied, norms term) {
	bias := product(x(hidden, "output bias")).when(a.OutBias)
	sinks := product(x(a.Heads, "sinks")).when(a.Sinks)
	if a.Latent != nil {
		split, copied, norms = a.Latent.parameters(hidden, a)
		return total(split, sinks), total(copied, bias), norms
	}
	query, kv := x(a.Heads, "heads"), x(a.KVHeads, "key/value heads")
	dim := x(a.HeadDim, "each")
	split = total(
		product(x(2, "q, o"), x(hidden, "width"), query, dim),
		product(x(2, "k, v"), x(hidden, "width"), kv, dim),
		product(x(a.Heads+2*a.KVHeads, "heads' bias"), dim).when(a.InBias),
		sinks,
	)
	switch a.QKNorm {
	case HeadQKNorm:
		norms = product(x(2, "q, k norms"), dim)
	case WidthQKNorm:
		norms = product(x(a.Heads+a.KVHeads, "normed heads"), dim)
	}
	return split, bias, norms
}

func (m Latent) parameters(hidden int, a Attention) (split, copied, norms term) {
	heads, width := x(a.Heads, "heads"), x(hidden, "width")
	rank := x(m.KVRank, "key/value rank")
	from := width // of queries
	if m.QueryRank > 0 {
		from = x(m.QueryRank, "query rank")
		copied = total(product(width, from), product(x(m.QueryRank, "bias")).when(a.InBias))
		norms = product(x(m.QueryRank, "query norm"))
	}
	split = total(
		product(from, heads, x(m.Nope+m.Rope, "query")),
		product(rank, heads, x(m.Nope+m.Value, "key and value")),
		product(width, heads, x(m.Value, "value")),
	)
	down := x(m.KVRank+m.Rope, "key/value rank and rotary key")
	copied = total(copied, product(width, down), product(x(m.KVRank+m.Rope, "bias")).when(a.InBias))
	return split, copied, total(norms, product(x(m.KVRank, "key/value norm")))
}

// parameters are the matrices and the first ones' bias, and the last one's bias.
func (m MLP) parameters(hidden int) (split, copied term) {
	n := m.matrices()
	split = total(product(x(n, "matrices"), x(hidden, "width"), x(m.Width, "inner")).when(n > 0),
		product(x(n-1, "biases"), x(m.Width, "inner")).when(m.Bias && n > 0))
	return split, product(x(hidden, "bias")).when(m.Bias && n > 0)
}

func (e Experts) parameters(hidden int, layers factor) Parameters {
	count := x(e.Count, "experts")
	var p Parameters
	p = p.with(model.Router, Copied, total(product(x(hidden, "width"), count), product(count).when(e.RouterBias)).times(layers))
	p = p.with(model.State, Copied, total(product(count).when(e.Correction), product(x(e.State, "statistics"))).times(layers))
	each := total(e.Each.parameters(hidden))
	routed := each.times(count).times(layers)
	p = append(p, Part{
		Kind: model.Expert, Split: Routed, Count: routed.n, Formula: routed.text,
		Active: int64(layers.n) * int64(e.TopK) * each.n,
	})
	split, copied := e.Shared.parameters(hidden)
	p = p.with(model.Shared, Tensor, split.times(layers))
	return p.with(model.Shared, Copied, total(copied, product(x(hidden, "gate")).when(e.SharedGate)).times(layers))
}

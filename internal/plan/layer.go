package plan

import "github.com/mistura-project/mistura/internal/anatomy"

// linear is a time that grows with the tokens of a micro-batch: what each call takes
// beside them, and each token.
type linear struct{ call, token float64 }

func (a linear) at(tokens float64) float64 { return a.call + a.token*tokens }
func (a linear) plus(b linear) linear      { return linear{a.call + b.call, a.token + b.token} }
func (a linear) times(n float64) linear    { return linear{n * a.call, n * a.token} }

// matrix is a product of tokens with weights of in × out elements.
type matrix struct{ in, out float64 }

// passes are the forward and the backward pass.
type passes struct{ forward, backward linear }

func (p passes) plus(q passes) passes {
	return passes{p.forward.plus(q.forward), p.backward.plus(q.backward)}
}

// layerTime is what a layer of one kind takes on a rank of a tensor-parallel group,
// of the tokens that the group shares. Expert-parallel degrees are left open.
type layerTime struct {
	count    int
	products passes
	scores   passes
	moved    passes // elementwise
	experts  passes // the calls of one whole expert, and a token's choice

	tensorBytes   [2]float64 // sent to the tensor-parallel group for each token, forward and backward
	tensorCalls   [2]float64
	expertBytes   float64 // of a token on their way to experts, and again back
	keyBytes      float64 // of a token's keys and values
	expertCount   float64 // in the layer; 0: dense
	topK          float64
	dense, routed float64 // parameters on the rank, and of all experts cut by nothing
}

// layerShape is what of a layer's time no constant changes: on one rank of a
// tensor-parallel group.
type layerShape struct {
	layer         anatomy.Run
	tp            int
	matrices      []matrix
	kept          float64 // bytes of activations a token
	tensorBytes   [2]float64
	tensorCalls   [2]float64
	dense, routed float64
}

func newLayerShape(t Task, k anatomy.Run, tp int, whole bool) layerShape {
	hidden := t.Model.Hidden
	mlp := k.MLP
	if k.Experts != nil {
		mlp = k.Experts.Shared
	}
	l := layerShape{layer: k, tp: tp, matrices: append(attentionMatrices(k.Attention, hidden, tp), mlpMatrices(mlp, hidden, tp)...)}
	lay := anatomy.Layout{TP: tp, EP: 1, ETP: 1, PP: 1, KVCopies: true, Whole: whole}
	l.kept = anatomy.Sum(k.Kept(hidden, anatomy.Keeping{Layout: lay, Sequence: t.Sequence, Element: wideBytes(t.Format), Recompute: anatomy.NoRecompute}))
	l.tensors(k.Layer.Traffic(hidden, lay, anatomy.Sending{Element: wideBytes(t.Format), Dispatch: wideBytes(t.Format), Combine: wideBytes(t.Format)}))
	p := anatomy.Decoder{Hidden: hidden, NormBias: t.Model.NormBias, Layers: []anatomy.Run{{Count: 1, Layer: k.Layer}}}.Whole().Parameters().Held()
	l.dense, l.routed = float64(p.Tensor)/float64(tp)+float64(p.Copied), float64(p.Routed)
	return l
}

// time is what the layer takes.
func (s layerShape) time(t Task, c coefficients) layerTime {
	l := layerTime{count: s.layer.Count, tensorBytes: s.tensorBytes, tensorCalls: s.tensorCalls, dense: s.dense, routed: s.routed}
	l.products = c.multiply(t.Format, s.matrices...)
	if e := s.layer.Experts; e != nil {
		l.products = l.products.plus(c.widened().multiply(wide(t.Format), matrix{float64(t.Model.Hidden), float64(e.Count)}))
		l.route(c, t, *e, s.tp)
	}
	l.attend(t, c, s.layer.Attention, s.tp)
	move := c.byteTime * c.elementwise * s.kept
	l.moved.forward.token += move
	l.moved.backward.token += 2 * move
	return l
}

// tensors adds up what is sent to the tensor-parallel group.
func (l *layerShape) tensors(messages []anatomy.Message) {
	for _, m := range messages {
		if m.Group != "tp" {
			continue
		}
		for i, n := range []int{m.Forward, m.Backward} {
			l.tensorBytes[i] += float64(n) * m.Sent()
			l.tensorCalls[i] += float64(n)
		}
	}
}

// attentionMatrices are the projections of one rank; queries, keys and values are one product.
func attentionMatrices(a anatomy.Attention, hidden, tp int) []matrix {
	h, n := float64(hidden), float64(tp)
	heads := float64(a.Heads) / n
	if m := a.Latent; m != nil {
		query, from := float64(m.Nope+m.Rope), h
		var out []matrix
		if m.QueryRank > 0 {
			from = float64(m.QueryRank)
			out = append(out, matrix{h, from})
		}
		return append(out, matrix{from, heads * query}, matrix{h, float64(m.KVRank + m.Rope)},
			matrix{float64(m.KVRank), heads * float64(m.Nope+m.Value)}, matrix{heads * float64(m.Value), h})
	}
	keys := float64(max(a.KVHeads, tp)) / n
	d := float64(a.HeadDim)
	return []matrix{{h, (heads + 2*keys) * d}, {heads * d, h}}
}

// mlpMatrices are those of one rank; gate and inner product are one.
func mlpMatrices(m anatomy.MLP, hidden, tp int) []matrix {
	if m.Width == 0 {
		return nil
	}
	h, w := float64(hidden), float64(m.Width)/float64(tp)
	if m.Gated {
		return []matrix{{h, 2 * w}, {w, h}}
	}
	return []matrix{{h, w}, {w, h}}
}

// multiply is what products take: operations at the rate that their widths allow, and
// operands to and from memory. A call takes as long as some tokens do, for the last
// wave of tiles is never full. The backward pass multiplies twice, and adds gradients of weights to those of
// former micro-batches in fp32.
func (c coefficients) multiply(format string, some ...matrix) passes {
	var p passes
	for _, m := range some {
		p = p.plus(c.one(format, m, c.product))
	}
	return p
}

func (c coefficients) one(format string, m matrix, rate float64) passes {
	operations := 2 * m.in * m.out * rate * (1 + c.width/m.in) * (1 + c.width/m.out)
	narrow := operandBytes(format)
	forward := linear{
		call:  operations*c.tokens + c.byteTime*narrow*m.in*m.out,
		token: operations + c.byteTime*(narrow*m.in+2*m.out) + c.byteTime*c.cast*m.in,
	}
	backward := forward.times(2)
	backward.call += c.byteTime * 8 * m.in * m.out
	backward.token += c.byteTime * c.cast * m.out
	return passes{forward, backward}
}

func operandBytes(format string) float64 {
	switch format {
	case "fp8":
		return 1
	case "fp4":
		return 0.5625 // with a scale for each 16
	case "fp32", "tf32":
		return 4
	}
	return 2
}

// attend: scores of the keys that a causal mask leaves, and, unfused, of all keys, which
// go to memory. A fused backward pass computes the scores again: five products for two
// (Dao, arXiv 2307.08691, section 3.2).
func (l *layerTime) attend(t Task, c coefficients, a anatomy.Attention, tp int) {
	heads := float64(a.Heads) / float64(tp)
	dims := heads * float64(a.QueryDim()+a.ValueDim())
	seen := anatomy.Seen(t.Sequence, a.Window, c.unfused)
	l.scores.forward.token = 2 * dims * (seen + c.keys) * c.score
	l.scores.backward.token = 2.5 * l.scores.forward.token
	if c.unfused {
		l.scores.backward.token = 2 * l.scores.forward.token
		bytes := heads * float64(t.Sequence) * c.byteTime
		l.scores.forward.token += unfusedForward * bytes
		l.scores.backward.token += unfusedBackward * bytes
	}
	keys := float64(2*max(a.KVHeads, tp)) * float64(a.HeadDim) / float64(tp)
	if a.Latent != nil {
		keys = heads * float64(a.QueryDim()+a.ValueDim())
	}
	l.keyBytes = float64(wideBytes(t.Format)) * keys
}

// Bytes that an element of the scores moves: products write it, mask and softmax and
// dropout read and write it with a mask, and the second product reads it; backward about twice that.
const (
	unfusedForward  = 2 + 4 + 5 + 2
	unfusedBackward = 2 + 5 + 6 + 4
)

// route is what the calls of one expert take, and what a token's choice takes: an
// expert-parallel rank multiplies the first by its experts, in shares where they are cut.
func (l *layerTime) route(c coefficients, t Task, e anatomy.Experts, tp int) {
	l.expertCount = float64(e.Count)
	rate := c.expert
	if e.Each.Bias {
		rate *= c.biased
	}
	for _, m := range mlpMatrices(e.Each, t.Model.Hidden, 1) {
		p := c.one(t.Format, m, rate)
		choice := float64(e.TopK) / float64(tp)
		p.forward.token *= choice
		p.backward.token *= choice
		l.experts = l.experts.plus(p)
	}
	l.expertBytes = float64(e.TopK*wideBytes(t.Format)) * float64(t.Model.Hidden) / float64(tp)
	l.topK = float64(e.TopK)
	l.moved.forward.token += c.byteTime * c.routing * l.expertBytes
	l.moved.backward.token += 2 * c.byteTime * c.routing * l.expertBytes
}

// Reached is the share of the peak that products of tokens with weights of in × out
// elements reach forward.
func (k Constants) Reached(h Hardware, format string, tokens, in, out float64) float64 {
	c, _ := k.coefficients(Task{Format: format, Stack: h.Usual()}, h)
	return 2 * tokens * in * out / h.Peak[format] / c.multiply(format, matrix{in, out}).forward.at(tokens)
}

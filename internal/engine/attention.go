package engine

import (
	"math"

	"github.com/mistura-project/mistura/internal/model"
)

// inverseRMS is 1/√(sum/n + eps).
func inverseRMS(sum float64, n int, eps float64) float32 {
	return float32(1 / math.Sqrt(sum/float64(n)+eps))
}

// attnIn is the item of the first phase: for a block of tokens, complete x, then
// norm, queries, keys and values, their norms and positions.
func (l *layer) attnIn(w *worker, item int) {
	from, to := block(item, tokenBlock, l.shape.tokens())
	w.watch.turn(l.startPart(l.index))
	l.startBlock(l.index, from, to)
	w.watch.turn(AttentionForward)
	a, dim, width := &l.acts, l.cfg.Dim, l.qkvWidth()
	l.norm(a.h, a.attnInv, a.x, l.w.attnNorm, from, to)
	out := a.qkv
	if l.cfg.QKNorm {
		out = a.raw
	}
	l.nt(w, l.linear(qkvLinear).forward(), out[from*width:], a.h[from*dim:], l.w.qkv, to-from, width, dim, dim, dim, width, false)
	for t := from; t < to; t++ {
		if l.cfg.QKNorm {
			l.normHeads(t)
		}
		l.rope.turn(a.qkv[t*width:(t+1)*width], l.position(t))
	}
}

// gain is the gain of head number h of queries then keys.
func (w *layerWeights) gain(cfg *model.Config, h int) []float32 {
	if h < cfg.Heads {
		return w.qNorm
	}
	return w.kNorm
}

// normHeads is RMSNorm of each query and key head of token t, from raw to qkv.
// Values are copied.
func (l *layer) normHeads(t int) {
	a, d, width := &l.acts, l.cfg.HeadDim, l.qkvWidth()
	raw, out := a.raw[t*width:(t+1)*width], a.qkv[t*width:(t+1)*width]
	for h := range l.cfg.Heads + l.cfg.KVHeads {
		a.headInv[t*(l.cfg.Heads+l.cfg.KVHeads)+h] = l.normRow(out[h*d:(h+1)*d], raw[h*d:(h+1)*d], l.w.gain(&l.cfg, h))
	}
	values := (l.cfg.Heads + l.cfg.KVHeads) * d
	copy(out[values:], raw[values:])
}

// heads are the offsets of one query head and its keys and values inside a
// token's row of qkv.
type heads struct{ q, k, v int }

func (e *Engine) heads(query int) heads {
	d, kv := e.cfg.HeadDim, query/(e.cfg.Heads/e.cfg.KVHeads)
	k := e.cfg.QueryWidth() + kv*d
	return heads{q: query * d, k: k, v: k + e.cfg.KVWidth()}
}

// attend is the item of the second phase: one query head of one sequence.
func (l *layer) attend(w *worker, item int) {
	w.watch.turn(AttentionForward)
	a, d, width := &l.acts, l.cfg.HeadDim, l.qkvWidth()
	row, query := item/l.cfg.Heads, item%l.cfg.Heads
	at, first, seq := l.heads(query), row*l.shape.seq, l.shape.seq
	for i := range blocksOf(seq, queryBlock) {
		from, to := block(i, queryBlock, seq)
		low := int(l.begin[first+from])
		keys := to - low
		l.scores(w, w.scratch.scores, first, from, to, at)
		for t := from; t < to; t++ {
			scores := w.scratch.scores[(t-from)*keys : (t-from+1)*keys]
			seen := l.seen(scores, first, t, low)
			top, sum := l.kernel.Softmax(seen)
			a.lse[(first+t)*l.cfg.Heads+query] = top + float32(math.Log(float64(sum)))
		}
		l.nn(w, valuesCall, a.o[(first+from)*l.cfg.QueryWidth()+at.q:], w.scratch.scores, a.qkv[(first+low)*width+at.v:],
			to-from, d, keys, keys, width, l.cfg.QueryWidth(), false)
	}
}

// scores are the products of queries [from, to) with keys [low, to) of the
// sequence that begins at token first, [to-from, to-low]; low is where the document
// of the first query begins. What a query does not see is there but means nothing.
func (l *layer) scores(w *worker, dst []float32, first, from, to int, at heads) {
	width, low := l.qkvWidth(), int(l.begin[first+from])
	l.nt(w, scoresCall, dst, l.acts.qkv[(first+from)*width+at.q:], l.acts.qkv[(first+low)*width+at.k:],
		to-from, to-low, l.cfg.HeadDim, width, width, to-low, false)
}

// seen gives the part of a row of keys [low, …) that query t of the sequence at
// token first sees, from the first key of its document to its own, and clears the
// rest.
func (l *layer) seen(row []float32, first, t, low int) []float32 {
	from, to := int(l.begin[first+t])-low, t+1-low
	clear(row[:from])
	clear(row[to:])
	return row[from:to]
}

// attnOut is the item of the third phase: for a block of tokens, the output
// projection, norm, the MLP that all tokens pass, and the router.
func (l *layer) attnOut(w *worker, item int) {
	w.watch.turn(AttentionForward)
	from, to := block(item, tokenBlock, l.shape.tokens())
	a, dim, query := &l.acts, l.cfg.Dim, l.cfg.QueryWidth()
	copy(a.mid[from*dim:to*dim], a.x[from*dim:to*dim])
	l.nt(w, l.linear(oLinear).forward(), a.mid[from*dim:], a.o[from*query:], l.w.o, to-from, dim, query, query, query, dim, true)
	w.watch.turn(SharedForward)
	l.norm(a.m, a.mlpInv, a.mid, l.w.mlpNorm, from, to)
	l.wideForward(w, from, to)
	if !l.moe() {
		return
	}
	w.watch.turn(RouterForward)
	experts := l.cfg.Experts
	l.nt(w, l.linear(routerLinear).forward(), a.routing.logits[from*experts:], a.m[from*dim:], l.w.router, to-from, experts, dim, dim, dim, experts, false)
	if l.warm() {
		return // noise needs the logits of all tokens
	}
	for t := from; t < to; t++ {
		l.routeToken(w, t)
	}
}

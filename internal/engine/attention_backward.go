package engine

// attendBackward is an item of the attention's backward phase: one key and value
// head of one sequence, with all the query heads that share it, in rising order.
// It writes this head's part of dQKV.
func (l *layer) attendBackward(w *worker, item int) {
	w.watch.turn(AttentionBackward)
	row, kv := item/l.cfg.KVHeads, item%l.cfg.KVHeads
	d, width, first, seq := l.cfg.HeadDim, l.qkvWidth(), row*l.shape.seq, l.shape.seq
	group := l.cfg.Heads / l.cfg.KVHeads
	at := l.heads(kv * group)
	for t := first; t < first+seq; t++ {
		clear(l.dQKV[t*width+at.k : t*width+at.k+d])
		clear(l.dQKV[t*width+at.v : t*width+at.v+d])
	}
	for query := kv * group; query < (kv+1)*group; query++ {
		for i := range blocksOf(seq, queryBlock) {
			from, to := block(i, queryBlock, seq)
			l.attendBlockBackward(w, first, from, to, query)
		}
	}
}

// attendBlockBackward does queries [from, to) of one head: the weights P are
// computed again from the scores and their log denominators, then with
// dP = dO·Vᵀ and dS = P·(dP - rowsum(P·dP)), where the row sum is dO·O:
// dQ = dS·K, dK += dSᵀ·Q, dV += Pᵀ·dO.
func (l *layer) attendBlockBackward(w *worker, first, from, to, query int) {
	a, d, width, wide := &l.acts, l.cfg.HeadDim, l.qkvWidth(), l.cfg.QueryWidth()
	at, n, low := l.heads(query), to-from, int(l.begin[first+from])
	p, dS, keys, start := w.scratch.scores, w.scratch.grads, to-low, first+low
	dO := l.dO[(first+from)*wide+at.q:]
	l.scores(w, p, first, from, to, at)
	l.nt(w, dScoresCall, dS, dO, a.qkv[start*width+at.v:], n, keys, d, wide, width, keys, false)
	for t := from; t < to; t++ {
		i, row := (first+t)*wide+at.q, t-from
		pRow, dRow := l.seen(p[row*keys:(row+1)*keys], first, t, low), l.seen(dS[row*keys:(row+1)*keys], first, t, low)
		l.kernel.ExpSum(pRow, pRow, a.lse[(first+t)*l.cfg.Heads+query])
		l.kernel.MulSub(dRow, pRow, dRow, l.kernel.Dot(l.dO[i:i+d], a.o[i:i+d]))
	}
	q, k := (first+from)*width+at.q, start*width+at.k
	l.nn(w, dKeyCall, l.dQKV[q:], dS, a.qkv[k:], n, d, keys, keys, width, width, false)
	l.tn(w, dKeyCall, l.dQKV[k:], dS, a.qkv[q:], keys, d, n, keys, width, width, true)
	l.tn(w, dValueCall, l.dQKV[start*width+at.v:], p, dO, keys, d, n, keys, wide, width, true)
}

// inBackward is an item of the layer's last backward phase: for a block of
// tokens, from dQKV back through positions, head norms, projections and norm to
// the gradient of the layer's input.
func (l *layer) inBackward(w *worker, item int) {
	w.watch.turn(AttentionBackward)
	from, to := block(item, tokenBlock, l.shape.tokens())
	a, dim, width := &l.acts, l.cfg.Dim, l.qkvWidth()
	l.roundHeads(w, from, to)
	for t := from; t < to; t++ {
		l.rope.turnBack(l.dQKV[t*width:(t+1)*width], l.position(t))
	}
	if l.cfg.QKNorm {
		l.normHeadsBackward(w, from, to)
	}
	l.nn(w, l.linear(qkvLinear).inputGrad(), l.dH[from*dim:], l.dProjected()[from*width:], l.w.qkv, to-from, dim, width, width, dim, dim, false)
	l.normBackward(w, l.dx, l.dMid, l.dH, a.x, l.w.attnNorm, a.attnInv, from, to)
}

// dProjected is the gradient of the projections to queries, keys and values.
func (l *layer) dProjected() []float32 {
	if l.cfg.QKNorm {
		return l.dRaw
	}
	return l.dQKV
}

// normHeadsBackward takes the gradients of normed heads, dQKV, to those of the raw
// ones, dRaw, for tokens [from, to).
func (l *layer) normHeadsBackward(w *worker, from, to int) {
	a, d, width, heads := &l.acts, l.cfg.HeadDim, l.qkvWidth(), l.cfg.Heads+l.cfg.KVHeads
	for t := from; t < to; t++ {
		out, in, raw := l.dRaw[t*width:(t+1)*width], l.dQKV[t*width:(t+1)*width], a.raw[t*width:(t+1)*width]
		clear(out[:heads*d])
		copy(out[heads*d:], in[heads*d:])
		for h := range heads {
			i, j := h*d, (h+1)*d
			l.normRowBackward(w, out[i:j], in[i:j], raw[i:j], l.w.gain(&l.cfg, h), a.headInv[t*heads+h])
		}
	}
}

package engine

import "math"

// normHeadEps is added to the column norms of NormHead (Ling's released model
// code).
const normHeadEps = 1e-7

// columnNorms sets colInv to 1/(L2 norm + eps) of each head column over the
// vocabulary. Scaling what is multiplied with the head by it is the same as
// scaling the head.
func (e *Engine) columnNorms(colInv []float32) {
	dim, sums := e.cfg.Dim, e.sums[:e.cfg.Dim]
	clear(sums)
	for v := range e.cfg.Vocab {
		for d, x := range e.w.head[v*dim : (v+1)*dim] {
			sums[d] += float64(float64(x) * float64(x))
		}
	}
	for d, s := range sums {
		colInv[d] = float32(1 / (math.Sqrt(s) + normHeadEps))
	}
}

// lossForward is the item of the last forward phase: for a block of tokens, the
// final norm, logits and cross-entropies. Logits become their own softmax, except
// where the loss does not count.
func (e *Engine) lossForward(w *worker, item int) {
	from, to := block(item, tokenBlock, e.shape.tokens())
	dim, vocab := e.cfg.Dim, e.cfg.Vocab
	w.watch.turn(e.startPart(e.cfg.Layers))
	e.startBlock(e.cfg.Layers, from, to)
	w.watch.turn(HeadForward)
	e.norm(e.final, e.finalInv, e.x, e.w.norm, from, to)
	if e.cfg.NormHead {
		e.scaleColumns(e.final, from, to)
	}
	e.nt(w, e.headLinear().forward(), e.logits[from*vocab:], e.final[from*dim:], e.w.head, to-from, vocab, dim, dim, dim, vocab, false)
	for t := from; t < to; t++ {
		row := e.logits[t*vocab : (t+1)*vocab]
		if e.labels[t] == masked {
			e.loss[t] = 0
			continue
		}
		target := row[e.labels[t]]
		top, sum := e.kernel.Softmax(row)
		e.loss[t] = math.Log(float64(sum)) + (float64(top) - float64(target))
	}
}

// scaleColumns multiplies rows [from, to) of x [N, D] by the inverse column norms.
func (e *Engine) scaleColumns(x []float32, from, to int) {
	dim := e.cfg.Dim
	for t := from; t < to; t++ {
		e.kernel.ScaleMul(x[t*dim:(t+1)*dim], x[t*dim:(t+1)*dim], e.colInv, 1)
	}
}

// lossBackward is the item of the first backward phase: for a block of tokens,
// the gradients of logits, final norm and last layer's output.
func (e *Engine) lossBackward(w *worker, item int) {
	w.watch.turn(HeadBackward)
	from, to := block(item, tokenBlock, e.shape.tokens())
	dim, vocab := e.cfg.Dim, e.cfg.Vocab
	for t := from; t < to; t++ {
		if e.labels[t] == masked {
			clear(e.logits[t*vocab : (t+1)*vocab])
			continue
		}
		e.logits[t*vocab+int(e.labels[t])] -= 1
		if e.lossFactor != 1 {
			e.kernel.Scale(e.logits[t*vocab:(t+1)*vocab], e.lossFactor)
		}
	}
	e.nn(w, e.headLinear().inputGrad(), e.dH[from*dim:], e.logits[from*vocab:], e.w.head, to-from, dim, vocab, vocab, dim, dim, false)
	if e.cfg.NormHead {
		e.scaleColumns(e.dH, from, to)
	}
	zero := e.dx[from*dim : to*dim]
	clear(zero)
	e.normBackward(w, e.dx, e.dx, e.dH, e.x, e.w.norm, e.finalInv, from, to)
}

// embedBackward is the item of the last backward phase: some columns of the
// embedding's gradient, tokens in rising order.
func (e *Engine) embedBackward(w *worker, item int) {
	w.watch.turn(Embedding)
	from, to := block(item, gainColumns, e.cfg.Dim)
	for t, token := range e.tokens {
		row := e.g.embedding[int(token)*e.cfg.Dim:]
		e.kernel.Add(row[from:to], e.dx[t*e.cfg.Dim+from:t*e.cfg.Dim+to])
	}
}

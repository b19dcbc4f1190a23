package engine

// layer is one layer with its weights, gradients and activations. It borrows
// everything else from the engine.
type layer struct {
	*Engine
	index int
	w, g  *layerWeights
	acts  activations
	tasks layerTasks
}

// layerTasks are the layer's phases as function values, made once.
type layerTasks struct {
	attnIn, attend, attnOut, routeNoisy, experts             func(w *worker, item int)
	expertsBackward, mlpBackward, attendBackward, inBackward func(w *worker, item int)
}

func newLayer(e *Engine, index int) *layer {
	l := &layer{Engine: e, index: index, w: &e.w.layers[index], g: &e.g.layers[index]}
	l.tasks = layerTasks{
		attnIn: l.attnIn, attend: l.attend, attnOut: l.attnOut, routeNoisy: l.routeNoisy, experts: l.expertsForward,
		expertsBackward: l.expertsBackward, mlpBackward: l.mlpBackward,
		attendBackward: l.attendBackward, inBackward: l.inBackward,
	}
	return l
}

// qkvWidth is the width of queries, keys and values of one token together.
func (e *Engine) qkvWidth() int { return e.cfg.QueryWidth() + 2*e.cfg.KVWidth() }

// moe reports whether the layer has routed experts.
func (l *layer) moe() bool { return l.w.router != nil }

// output is where the layer writes its result: the next layer's input.
func (l *layer) output() []float32 {
	if l.index+1 < len(l.layers) {
		return l.layers[l.index+1].acts.x
	}
	return l.x
}

// forward runs the layer on the pass; the input is in place, except that the
// first phase completes it (startBlock).
func (l *layer) forward() {
	blocks := blocksOf(l.shape.tokens(), tokenBlock)
	l.run(blocks, l.tasks.attnIn)
	l.run(l.shape.rows*l.cfg.Heads, l.tasks.attend)
	l.run(blocks, l.tasks.attnOut)
	if l.moe() {
		if l.warm() {
			l.measureLogits()
			l.run(blocks, l.tasks.routeNoisy)
		}
		l.group()
		l.run(len(l.acts.routing.chunks), l.tasks.experts)
	}
}

// backward turns dx from the gradient of the layer's output into that of its
// input and queues or adds the gradients of its weights.
func (l *layer) backward() {
	a, n := &l.acts, l.shape.tokens()
	blocks := blocksOf(n, tokenBlock)
	if l.moe() {
		l.run(len(a.routing.chunks), l.tasks.expertsBackward)
	}
	l.run(blocks, l.tasks.mlpBackward)
	l.queueMLPGrads()
	l.queueing = AttentionBackward
	l.weightGrad(l.linear(oLinear), l.g.o, l.dMid, a.o, n, l.cfg.Dim, l.cfg.QueryWidth())
	l.run(l.shape.rows*l.cfg.KVHeads, l.tasks.attendBackward)
	l.run(blocks, l.tasks.inBackward)
	l.weightGrad(l.linear(qkvLinear), l.g.qkv, l.dProjected(), a.h, n, l.qkvWidth(), l.cfg.Dim)
	if l.cfg.QKNorm {
		l.headGainGrad(l.g.qNorm, 0, l.cfg.Heads)
		l.headGainGrad(l.g.kNorm, l.cfg.Heads, l.cfg.KVHeads)
	}
	l.gainGrad(l.g.attnNorm, l.dH, a.x, a.attnInv)
}

// startPart is what startBlock does.
func (e *Engine) startPart(layers int) Part {
	if layers == 0 {
		return Embedding
	}
	return ExpertsForward
}

// startBlock completes the residual stream x of tokens [from, to) for whoever
// reads it next: the embedding before the first layer, afterwards the sum of the
// routed experts of the layer before.
func (e *Engine) startBlock(layers, from, to int) {
	dim := e.cfg.Dim
	if layers == 0 {
		x := e.layers[0].acts.x
		for t := from; t < to; t++ {
			token := int(e.tokens[t])
			copy(x[t*dim:(t+1)*dim], e.w.embedding[token*dim:(token+1)*dim])
		}
		return
	}
	if l := e.layers[layers-1]; l.moe() {
		l.addExperts(from, to)
	}
}

// norm is RMSNorm of rows [from, to): y = x·inv·gain, inv = 1/√(mean x² + eps).
func (e *Engine) norm(y, inv, x, gain []float32, from, to int) {
	dim := len(gain)
	for t := from; t < to; t++ {
		inv[t] = e.normRow(y[t*dim:(t+1)*dim], x[t*dim:(t+1)*dim], gain)
	}
}

func (e *Engine) normRow(y, x, gain []float32) float32 {
	inv := inverseRMS(e.kernel.SumSquares(x), len(x), e.cfg.NormEps)
	e.kernel.ScaleMul(y, x, gain, inv)
	return inv
}

// normBackward gives dX = base + the gradient of norm's input for rows
// [from, to). dX may be base.
func (e *Engine) normBackward(w *worker, dX, base, dY, x, gain, inv []float32, from, to int) {
	dim := len(gain)
	for t := from; t < to; t++ {
		i, j := t*dim, (t+1)*dim
		copy(dX[i:j], base[i:j])
		e.normRowBackward(w, dX[i:j], dY[i:j], x[i:j], gain, inv[t])
	}
}

// normRowBackward adds inv·(gain·dY - x·inv²·mean(gain·dY·x)) to dX.
func (e *Engine) normRowBackward(w *worker, dX, dY, x, gain []float32, inv float32) {
	scaled := w.scratch.row[:len(gain)]
	e.kernel.ScaleMul(scaled, dY, gain, inv)
	shift := float32(e.kernel.Dot(scaled, x)*inv) * inv / float32(len(gain))
	e.kernel.Add(dX, scaled)
	e.kernel.Axpy(dX, x, -shift)
}

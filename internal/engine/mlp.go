package engine

// wideForward runs the MLP that all tokens pass for tokens [from, to) and writes
// mid plus its result, or mid alone when there is none, as the layer's output.
func (l *layer) wideForward(w *worker, from, to int) {
	a, dim, f := &l.acts, l.cfg.Dim, l.w.wide.width
	out := l.output()[from*dim : to*dim]
	copy(out, a.mid[from*dim:to*dim])
	if f == 0 {
		return
	}
	n := to - from
	l.nt(w, l.linear(wideUpLinear).forward(), a.gateUp[from*2*f:], a.m[from*dim:], l.w.wide.gateUp, n, 2*f, dim, dim, dim, 2*f, false)
	l.activate(a.act, a.gateUp, f, from, to)
	l.nt(w, l.linear(wideDownLinear).forward(), out, a.act[from*f:], l.w.wide.down, n, dim, f, f, f, dim, true)
}

// activate is act = silu(gate)·up for rows [from, to).
func (e *Engine) activate(act, gateUp []float32, f, from, to int) {
	for t := from; t < to; t++ {
		gu := gateUp[t*2*f : (t+1)*2*f]
		e.kernel.SwiGLU(act[t*f:(t+1)*f], gu[:f], gu[f:])
	}
}

// expertsForward is the item of the fourth phase: a chunk of one expert's tokens,
// gathered, through its MLP.
func (l *layer) expertsForward(w *worker, item int) {
	a, c, dim, f := &l.acts, l.acts.routing.chunks[item], l.cfg.Dim, l.cfg.ExpertFFN
	from, to := int(c.from), int(c.to)
	n, expert := to-from, &l.w.experts[c.expert]
	w.watch.turn(ExpertsForward)
	l.gather(w.scratch.rows, a.m, from, to)
	l.nt(w, l.expertUp(int(c.expert)).forward(), a.groupGU[from*2*f:], w.scratch.rows, expert.gateUp, n, 2*f, dim, dim, dim, 2*f, false)
	l.activate(a.groupAct, a.groupGU, f, from, to)
	l.nt(w, l.expertDown(int(c.expert)).forward(), l.groupOut[from*dim:], a.groupAct[from*f:], expert.down, n, dim, f, f, f, dim, false)
}

// gather copies the rows of x [N, D] of the tokens at positions [from, to).
func (l *layer) gather(dst, x []float32, from, to int) {
	dim, r := l.cfg.Dim, &l.acts.routing
	for i := from; i < to; i++ {
		t := int(r.source[i]) / l.cfg.TopK
		copy(dst[(i-from)*dim:(i-from+1)*dim], x[t*dim:(t+1)*dim])
	}
}

// addExperts adds the weighted outputs of their experts to tokens [from, to) of
// the layer's output.
func (l *layer) addExperts(from, to int) {
	dim, k, r, out := l.cfg.Dim, l.cfg.TopK, &l.acts.routing, l.output()
	for t := from; t < to; t++ {
		for i := t * k; i < (t+1)*k; i++ {
			at := int(r.place[i]) * dim
			l.kernel.Axpy(out[t*dim:(t+1)*dim], l.groupOut[at:at+dim], r.weight[i])
		}
	}
}

// expertsBackward is an item of the first backward phase: a chunk of one
// expert's tokens. With y = weight · down · act it needs no stored output: the
// gradient of the weight is (downᵀ·dY)·act.
func (l *layer) expertsBackward(w *worker, item int) {
	a, c, dim, f := &l.acts, l.acts.routing.chunks[item], l.cfg.Dim, l.cfg.ExpertFFN
	from, to := int(c.from), int(c.to)
	n, expert, dAct := to-from, &l.w.experts[c.expert], w.scratch.rows
	w.watch.turn(ExpertsBackward)
	l.gather(l.groupDY[from*dim:], l.dx, from, to)
	l.gather(l.groupX[from*dim:], a.m, from, to)
	l.nn(w, l.expertDown(int(c.expert)).inputGrad(), dAct, l.groupDY[from*dim:], expert.down, n, f, dim, dim, f, f, false)
	for i := from; i < to; i++ {
		pair := a.routing.source[i]
		weight := a.routing.weight[pair]
		act, d := a.groupAct[i*f:(i+1)*f], dAct[(i-from)*f:(i-from+1)*f]
		l.dWeight[pair] = l.kernel.Dot(d, act)
		l.kernel.Scale(act, weight)
		l.kernel.Scale(d, weight)
		l.activateBackward(l.groupDGU, a.groupGU, d, f, i)
	}
	l.nn(w, l.expertUp(int(c.expert)).inputGrad(), l.groupDX[from*dim:], l.groupDGU[from*2*f:], expert.gateUp, n, dim, 2*f, 2*f, dim, dim, false)
}

// activateBackward takes the gradient of activate's output in row i to that of
// its input.
func (e *Engine) activateBackward(dGateUp, gateUp, dAct []float32, f, i int) {
	gu, d := gateUp[i*2*f:(i+1)*2*f], dGateUp[i*2*f:(i+1)*2*f]
	e.kernel.SwiGLUGrad(d[:f], d[f:], gu[:f], gu[f:], dAct)
}

// mlpBackward is an item of the second backward phase: for a block of tokens,
// everything between the layer's output and attention's output o.
func (l *layer) mlpBackward(w *worker, item int) {
	from, to := block(item, tokenBlock, l.shape.tokens())
	a, dim, query, n := &l.acts, l.cfg.Dim, l.cfg.QueryWidth(), to-from
	w.watch.turn(SharedBackward)
	clear(l.dM[from*dim : to*dim])
	l.wideBackward(w, from, to)
	if l.moe() {
		w.watch.turn(RouterBackward)
		for t := from; t < to; t++ {
			l.routeTokenBackward(w, t)
			l.addExpertGrads(t)
		}
		experts := l.cfg.Experts
		l.nn(w, l.linear(routerLinear).inputGrad(), l.dM[from*dim:], l.dRouter[from*experts:], l.w.router, n, dim, experts, experts, dim, dim, true)
	}
	w.watch.turn(SharedBackward)
	l.normBackward(w, l.dMid, l.dx, l.dM, a.mid, l.w.mlpNorm, a.mlpInv, from, to)
	w.watch.turn(AttentionBackward)
	l.nn(w, l.linear(oLinear).inputGrad(), l.dO[from*query:], l.dMid[from*dim:], l.w.o, n, query, dim, dim, query, query, false)
}

// wideBackward adds to dM what comes through the MLP that all tokens pass.
func (l *layer) wideBackward(w *worker, from, to int) {
	a, dim, f := &l.acts, l.cfg.Dim, l.w.wide.width
	if f == 0 {
		return
	}
	n, dAct := to-from, w.scratch.rows
	l.nn(w, l.linear(wideDownLinear).inputGrad(), dAct, l.dx[from*dim:], l.w.wide.down, n, f, dim, dim, f, f, false)
	for t := from; t < to; t++ {
		l.activateBackward(l.dGateUp, a.gateUp, dAct[(t-from)*f:(t-from+1)*f], f, t)
	}
	l.nn(w, l.linear(wideUpLinear).inputGrad(), l.dM[from*dim:], l.dGateUp[from*2*f:], l.w.wide.gateUp, n, dim, 2*f, 2*f, dim, dim, true)
}

// addExpertGrads adds to dM what comes through token t's routed experts.
func (l *layer) addExpertGrads(t int) {
	dim, k := l.cfg.Dim, l.cfg.TopK
	for i := t * k; i < (t+1)*k; i++ {
		at := int(l.acts.routing.place[i]) * dim
		l.kernel.Add(l.dM[t*dim:(t+1)*dim], l.groupDX[at:at+dim])
	}
}

// queueMLPGrads queues the weight gradients of both kinds of MLP, of the router
// and of the norm before them.
func (l *layer) queueMLPGrads() {
	a, g, dim, n := &l.acts, l.g, l.cfg.Dim, l.shape.tokens()
	l.queueing = ExpertsBackward
	for e := range g.experts {
		f, from, to := l.cfg.ExpertFFN, int(a.routing.start[e]), int(a.routing.start[e+1])
		l.weightGrad(l.expertUp(e), g.experts[e].gateUp, l.groupDGU[from*2*f:], l.groupX[from*dim:], to-from, 2*f, dim)
		l.weightGrad(l.expertDown(e), g.experts[e].down, l.groupDY[from*dim:], a.groupAct[from*f:], to-from, dim, f)
	}
	l.queueing = SharedBackward
	if f := g.wide.width; f > 0 {
		l.weightGrad(l.linear(wideUpLinear), g.wide.gateUp, l.dGateUp, a.m, n, 2*f, dim)
		l.weightGrad(l.linear(wideDownLinear), g.wide.down, l.dx, a.act, n, dim, f)
	}
	l.gainGrad(g.mlpNorm, l.dM, a.mid, a.mlpInv)
	if l.moe() {
		l.queueing = RouterBackward
		l.weightGrad(l.linear(routerLinear), g.router, l.dRouter, a.m, n, l.cfg.Experts, dim)
	}
}

package scalar

import "strconv"

// mlpTape is one gated MLP at work on one token.
type mlpTape[F Float] struct{ gate, up, act []F }

// mlp runs the MLP of that prefix on x.
func (l *layerTape[F]) mlp(prefix string, x []F) (y []F, tape mlpTape[F]) {
	gate, _ := l.weight(prefix + "gate")
	up, _ := l.weight(prefix + "up")
	down, _ := l.weight(prefix + "down")
	width := len(gate) / len(x)
	tape = mlpTape[F]{gate: Linear(gate, x, width), up: Linear(up, x, width)}
	tape.act = SwiGLU(tape.gate, tape.up)
	return Linear(down, tape.act, len(x)), tape
}

// mlpBackward is the gradient of mlp.
func (l *layerTape[F]) mlpBackward(prefix string, tape mlpTape[F], x, dY []F) (dX []F) {
	gate, dGate := l.weight(prefix + "gate")
	up, dUp := l.weight(prefix + "up")
	down, dDown := l.weight(prefix + "down")
	g, u := SwiGLUBackward(tape.gate, tape.up, LinearBackward(dDown, down, tape.act, dY))
	dX = LinearBackward(dGate, gate, x, g)
	Add(dX, LinearBackward(dUp, up, x, u), 1)
	return dX
}

func expertPrefix(e int) string { return "experts." + strconv.Itoa(e) + "." }

// widePrefix names the MLP that all tokens pass, "" where there is none.
func (l *layerTape[F]) widePrefix() string {
	switch c := l.s.m.Config; {
	case c.Dense(l.layer):
		return "dense."
	case c.SharedExperts > 0:
		return "shared."
	}
	return ""
}

// forwardMLP adds to out what the MLPs make of token t.
func (l *layerTape[F]) forwardMLP(out []F, t int) {
	c := l.s.m.Config
	if prefix := l.widePrefix(); prefix != "" {
		y, tape := l.mlp(prefix, l.m[t])
		l.wide = append(l.wide, tape)
		Add(out, y, 1)
	}
	if c.Dense(l.layer) {
		return
	}
	var choice []int
	if imposed := l.s.batch.Choices; imposed != nil {
		for _, e := range imposed[l.layer][(l.s.first+t)*c.TopK:][:c.TopK] {
			choice = append(choice, int(e))
		}
	}
	var bias []F
	if c.RouterBias {
		bias, _ = l.weight("router_bias")
	}
	r := Route(c, l.logits[t], bias, choice)
	var tapes []mlpTape[F]
	var outs [][]F
	for i, e := range r.Choice {
		y, tape := l.mlp(expertPrefix(e), l.m[t])
		tapes, outs = append(tapes, tape), append(outs, y)
		Add(out, y, r.Weight[i])
	}
	l.routed = append(l.routed, r)
	l.experts, l.expertOuts = append(l.experts, tapes), append(l.expertOuts, outs)
}

// forwardRouter gives the logits that the router sees: noisy ones in a warm-up.
func (l *layerTape[F]) forwardRouter() {
	c := l.s.m.Config
	router, _ := l.weight("router")
	for t := range l.m {
		l.logits = append(l.logits, Linear(router, l.m[t], c.Experts))
	}
	w := l.s.batch.Warmup
	if w == nil {
		return
	}
	mean, variance := moments(l.logits)
	if stats, _ := l.weight("router_stats"); stats[1] > 0 {
		mean, variance = stats[0], stats[1]
	}
	for t, logits := range l.logits {
		for e := range logits {
			drawn := mean + sqrt(variance)*F(w.Eps(l.s.row, l.layer, t, e))
			logits[e] = F(w.Alpha)*logits[e] + (1-F(w.Alpha))*drawn
		}
	}
}

// moments are mean and variance of all elements.
func moments[F Float](x [][]F) (mean, variance F) {
	n := F(len(x) * len(x[0]))
	for _, row := range x {
		for _, v := range row {
			mean += v / n
		}
	}
	for _, row := range x {
		for _, v := range row {
			variance += (v - mean) * (v - mean) / n
		}
	}
	return mean, variance
}

// backwardMLP gives the gradient of the MLPs' input.
func (l *layerTape[F]) backwardMLP(dOut [][]F) (dM [][]F) {
	for t, d := range dOut {
		dM = append(dM, make([]F, len(d)))
		if prefix := l.widePrefix(); prefix != "" {
			Add(dM[t], l.mlpBackward(prefix, l.wide[t], l.m[t], d), 1)
		}
	}
	c := l.s.m.Config
	if c.Dense(l.layer) {
		return dM
	}
	n := F(l.s.targets)
	_, _, dShare, dLogSum := RouterLosses(c, l.routed)
	for e := range dShare {
		dShare[e] *= n * F(c.BalanceCoef)
	}
	for t := range dOut {
		l.backwardExperts(dM[t], dOut[t], t, dShare, dLogSum[t]*n*F(c.ZCoef))
	}
	return dM
}

// backwardExperts adds to dM what comes through token t's experts and router.
func (l *layerTape[F]) backwardExperts(dM, dOut []F, t int, dShare []F, dLogSum F) {
	r := l.routed[t]
	dWeight := make([]F, len(r.Choice))
	for i, e := range r.Choice {
		dWeight[i] = Dot(dOut, l.expertOuts[t][i])
		dY := make([]F, len(dOut))
		Add(dY, dOut, r.Weight[i])
		Add(dM, l.mlpBackward(expertPrefix(e), l.experts[t][i], l.m[t], dY), 1)
	}
	router, dRouter := l.weight("router")
	dLogits := RouteBackward(l.s.m.Config, r, dWeight, dShare, dLogSum)
	if w := l.s.batch.Warmup; w != nil {
		for e := range dLogits {
			dLogits[e] *= F(w.Alpha)
		}
	}
	Add(dM, LinearBackward(dRouter, router, l.m[t], dLogits), 1)
}

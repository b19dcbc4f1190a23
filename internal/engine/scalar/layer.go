package scalar

// layerTape is one layer at work on one sequence, with what it must remember.
type layerTape[F Float] struct {
	s      *sequence[F]
	layer  int
	prefix string // of its tensors' names

	x, h       [][]F // input and its norm
	raw, q     headsOf[F]
	k, v       headsOf[F]
	rawK       headsOf[F]
	o          [][]F // attention of all heads, side by side
	mid, m     [][]F // x plus attention, and its norm
	wide       []mlpTape[F]
	logits     [][]F // of the router
	routed     []Routed[F]
	experts    [][]mlpTape[F] // [token][choice]
	expertOuts [][][]F
}

// headsOf is [head][token][element].
type headsOf[F Float] [][][]F

func newHeads[F Float](heads, tokens, d int) headsOf[F] {
	h := make(headsOf[F], heads)
	for i := range h {
		for range tokens {
			h[i] = append(h[i], make([]F, d))
		}
	}
	return h
}

func (l *layerTape[F]) weight(name string) (w, dW []F) {
	return l.s.m.weight(l.prefix + name)
}

func (l *layerTape[F]) forward(x [][]F) [][]F {
	l.x = x
	l.forwardAttention()
	out := make([][]F, len(x))
	norm, _ := l.weight("mlp.norm")
	for t := range x {
		l.m = append(l.m, RMSNorm(norm, l.mid[t], l.s.m.Config.NormEps))
	}
	if !l.s.m.Config.Dense(l.layer) {
		l.forwardRouter()
	}
	for t := range x {
		out[t] = append([]F(nil), l.mid[t]...)
		l.forwardMLP(out[t], t)
	}
	return out
}

func (l *layerTape[F]) forwardAttention() {
	c := l.s.m.Config
	norm, _ := l.weight("attention.norm")
	for _, x := range l.x {
		l.h = append(l.h, RMSNorm(norm, x, c.NormEps))
	}
	l.raw, l.q = l.project("q", c.Heads, true)
	l.rawK, l.k = l.project("k", c.KVHeads, true)
	l.v, _ = l.project("v", c.KVHeads, false)
	l.o = make([][]F, len(l.x))
	for h := range c.Heads {
		kv := h / (c.Heads / c.KVHeads)
		for t, o := range Attend(l.q[h], l.k[kv], l.v[kv], l.s.document) {
			l.o[t] = append(l.o[t], o...)
		}
	}
	wo, _ := l.weight("attention.o")
	for t, x := range l.x {
		mid := Linear(wo, l.o[t], c.Dim)
		Add(mid, x, 1)
		l.mid = append(l.mid, mid)
	}
}

// project gives the heads of one projection, raw and, for queries and keys,
// normed (with QKNorm) and turned.
func (l *layerTape[F]) project(name string, heads int, turn bool) (raw, done headsOf[F]) {
	c := l.s.m.Config
	w, _ := l.weight("attention." + name)
	raw, done = newHeads[F](heads, len(l.x), c.HeadDim), newHeads[F](heads, len(l.x), c.HeadDim)
	for t, h := range l.h {
		y := Linear(w, h, heads*c.HeadDim)
		for i := range heads {
			copy(raw[i][t], y[i*c.HeadDim:])
			z := raw[i][t]
			if turn && c.QKNorm {
				gain, _ := l.weight("attention." + name + "_norm")
				z = RMSNorm(gain, z, c.NormEps)
			}
			if turn {
				done[i][t] = Rotate(z, c.Turned(), l.s.position[t], c.RopeTheta)
			}
		}
	}
	return raw, done
}

// projectBackward adds to dH what comes through one projection, given the
// gradient of its heads.
func (l *layerTape[F]) projectBackward(dH [][]F, name string, raw, d headsOf[F], turn bool) {
	c := l.s.m.Config
	w, dW := l.weight("attention." + name)
	for t := range dH {
		var dY []F
		for i := range d {
			g := d[i][t]
			if turn {
				g = RotateBackward(g, c.Turned(), l.s.position[t], c.RopeTheta)
			}
			if turn && c.QKNorm {
				gain, dGain := l.weight("attention." + name + "_norm")
				g = RMSNormBackward(dGain, gain, raw[i][t], c.NormEps, g)
			}
			dY = append(dY, g...)
		}
		Add(dH[t], LinearBackward(dW, w, l.h[t], dY), 1)
	}
}

func (l *layerTape[F]) backward(dOut [][]F) (dX [][]F) {
	c := l.s.m.Config
	norm, dNorm := l.weight("mlp.norm")
	dMid := make([][]F, len(dOut))
	dM := l.backwardMLP(dOut)
	for t := range dOut {
		dMid[t] = RMSNormBackward(dNorm, norm, l.mid[t], c.NormEps, dM[t])
		Add(dMid[t], dOut[t], 1)
	}
	dH := l.backwardAttention(dMid)
	norm, dNorm = l.weight("attention.norm")
	for t := range dOut {
		d := RMSNormBackward(dNorm, norm, l.x[t], c.NormEps, dH[t])
		Add(d, dMid[t], 1)
		dX = append(dX, d)
	}
	return dX
}

func (l *layerTape[F]) backwardAttention(dMid [][]F) (dH [][]F) {
	c := l.s.m.Config
	wo, dWo := l.weight("attention.o")
	dO := newHeads[F](c.Heads, len(dMid), c.HeadDim)
	for t, d := range dMid {
		g := LinearBackward(dWo, wo, l.o[t], d)
		for h := range c.Heads {
			copy(dO[h][t], g[h*c.HeadDim:])
		}
		dH = append(dH, make([]F, c.Dim))
	}
	var dQ headsOf[F]
	dK, dV := newHeads[F](c.KVHeads, len(dMid), c.HeadDim), newHeads[F](c.KVHeads, len(dMid), c.HeadDim)
	for h := range c.Heads {
		kv := h / (c.Heads / c.KVHeads)
		dQ = append(dQ, AttendBackward(dK[kv], dV[kv], l.q[h], l.k[kv], l.v[kv], dO[h], l.s.document))
	}
	l.projectBackward(dH, "q", l.raw, dQ, true)
	l.projectBackward(dH, "k", l.rawK, dK, true)
	l.projectBackward(dH, "v", nil, dV, false)
	return dH
}

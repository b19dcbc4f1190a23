package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectors writes the slice functions of a set. Each takes the steps of its twin in
// vector_go.go, with a product and the sum it goes into fused.
func vectors(c *build.Context, w width) {
	t := newTables(c, w)
	axpy(c, w, t)
	scale(c, w, t)
	add(c, w, t)
	scaleMul(c, w, t)
	addMul(c, w, t)
	mulSub(c, w, t)
	swiGLU(c, w, t)
	swiGLUGrad(c, w, t)
	adamW(c, w, t)
	expSum(c, w, t)
	dot(c, w, t)
	sumSquares(c, w, t)
	largest(c, w, t)
}

func axpy(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "Axpy", "func(y, x []float32, alpha float32)", "y", "x")
	alpha := s.broadcast("alpha")
	s.run(1, func(int) {
		y := s.load("y")
		s.VFMADD231PS(s.load("x"), alpha, y)
		s.store(y, "y")
	})
	s.finish()
}

func scale(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "Scale", "func(x []float32, alpha float32)", "x")
	alpha := s.broadcast("alpha")
	s.run(1, func(int) {
		x := s.load("x")
		s.VMULPS(alpha, x, x)
		s.store(x, "x")
	})
	s.finish()
}

func add(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "Add", "func(y, x []float32)", "y", "x")
	s.run(1, func(int) {
		y := s.load("y")
		s.VADDPS(s.load("x"), y, y)
		s.store(y, "y")
	})
	s.finish()
}

func scaleMul(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "ScaleMul", "func(dst, x, z []float32, alpha float32)", "dst", "x", "z")
	alpha := s.broadcast("alpha")
	s.run(1, func(int) {
		x := s.load("x")
		s.VMULPS(alpha, x, x)
		s.VMULPS(s.load("z"), x, x)
		s.store(x, "dst")
	})
	s.finish()
}

func addMul(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "AddMul", "func(y, x, z []float32, alpha float32)", "y", "x", "z")
	alpha := s.broadcast("alpha")
	s.run(1, func(int) {
		x, y := s.load("x"), s.load("y")
		s.VMULPS(alpha, x, x)
		s.VFMADD231PS(s.load("z"), x, y)
		s.store(y, "y")
	})
	s.finish()
}

func mulSub(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "MulSub", "func(dst, p, x []float32, shift float32)", "dst", "p", "x")
	shift := s.broadcast("shift")
	s.run(1, func(int) {
		x := s.load("x")
		s.VSUBPS(shift, x, x)
		s.VMULPS(s.load("p"), x, x)
		s.store(x, "dst")
	})
	s.finish()
}

func swiGLU(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "SwiGLU", "func(dst, gate, up []float32)", "dst", "gate", "up")
	s.run(1, func(int) {
		g := s.load("gate")
		sigma := s.sigmoid(g)
		s.VMULPS(sigma, g, g)
		s.VMULPS(s.load("up"), g, g)
		s.store(g, "dst")
	})
	s.finish()
}

func swiGLUGrad(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "SwiGLUGrad", "func(dGate, dUp, gate, up, dOut []float32)",
		"dGate", "dUp", "gate", "up", "dOut")
	s.run(1, func(int) {
		silu := s.load("gate")
		sigma := s.sigmoid(silu)
		d, u := s.load("dOut"), s.load("up")
		s.VMULPS(sigma, silu, silu)
		slope := s.register(c)
		s.VMOVUPS(s.constant(one), slope)
		s.VSUBPS(sigma, slope, slope)
		s.VFMADD213PS(sigma, silu, slope) // silu·(1-sigma) + sigma
		s.VMULPS(d, silu, silu)
		s.store(silu, "dUp")
		s.VMULPS(u, d, d)
		s.VMULPS(slope, d, d)
		s.store(d, "dGate")
	})
	s.finish()
}

// adamW takes its scalars in the order of AdamWStep's fields.
func adamW(c *build.Context, w width, t tables) {
	const (
		beta1 = iota
		rest1
		beta2
		rest2
		bias1
		bias2
		eps
		decay
		rate
		gradScale
	)
	s := newSweep(c, w, t, "AdamW", "func(params, grads, m, v []float32, c *[10]float32)",
		"params", "grads", "m", "v")
	at := load(c, "c")
	scalar := func(i int) reg.VecVirtual {
		r := w.register(c)
		c.VBROADCASTSS(operand.Mem{Base: at, Disp: 4 * i}, r)
		return r
	}
	s.run(1, func(int) {
		p, g, m, v := s.load("params"), s.load("grads"), s.load("m"), s.load("v")
		s.VMULPS(scalar(gradScale), g, g)
		s.VMULPS(scalar(beta1), m, m)
		s.VFMADD231PS(scalar(rest1), g, m)
		s.store(m, "m")
		s.VMULPS(g, g, g)
		s.VMULPS(scalar(beta2), v, v)
		s.VFMADD231PS(scalar(rest2), g, v)
		s.store(v, "v")
		s.VMULPS(scalar(bias2), v, v)
		s.VSQRTPS(v, v)
		s.VADDPS(scalar(eps), v, v)
		s.VMULPS(scalar(bias1), m, m)
		s.VDIVPS(v, m, m)
		s.VFMADD231PS(scalar(decay), p, m)
		s.VFNMADD231PS(scalar(rate), m, p)
		s.store(p, "params")
	})
	s.finish()
}

// sigmoid is 1/(1+exp(-x)); x is kept.
func (s *sweep) sigmoid(x reg.VecVirtual) reg.VecVirtual {
	e, q := s.register(s.Context), s.register(s.Context)
	s.zero(s.Context, e)
	s.VSUBPS(x, e, e)
	e = s.exp(e)
	s.VMOVUPS(s.constant(one), q)
	s.VADDPS(q, e, e)
	s.VDIVPS(e, q, q)
	return q
}

// exp takes the steps of goExp; x is lost.
func (s *sweep) exp(x reg.VecVirtual) reg.VecVirtual {
	t, n, p := s.register(s.Context), s.register(s.Context), s.register(s.Context)
	// The second source is what min and max give for a NaN: it has to be x.
	s.VMOVUPS(s.constant(expTop), t)
	s.VMINPS(x, t, x)
	s.VMOVUPS(s.constant(expBottom), t)
	s.VMAXPS(x, t, x)
	s.VMOVUPS(s.constant(expRound), t)
	s.VFMADD231PS(s.constant(expLog2E), x, t)
	s.VSUBPS(s.constant(expRound), t, n)
	s.VFNMADD231PS(s.constant(expLn2Hi), n, x)
	s.VFNMADD231PS(s.constant(expLn2Lo), n, x)
	s.VMOVUPS(s.constant(expC5), p)
	for k := expC4; k <= expC0; k++ {
		s.VFMADD213PS(s.constant(k), x, p)
	}
	s.VMULPS(x, x, n)
	s.VFMADD213PS(x, n, p)
	s.VADDPS(s.constant(one), p, p)
	s.VPSUBD(s.constant(expRound), t, t)
	s.VPSRAD(operand.U8(1), t, n)
	s.VPSUBD(n, t, t)
	for _, half := range []reg.VecVirtual{n, t} {
		s.VPADDD(s.constant(expBias), half, half)
		s.VPSLLD(operand.U8(23), half, half)
		s.VMULPS(half, p, p)
	}
	return p
}

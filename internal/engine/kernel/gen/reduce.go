package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// binary is an instruction dst = y op x.
type binary func(x, y, dst operand.Op)

func (s *sweep) sums(count int) []reg.VecVirtual {
	r := s.registers(s.Context, count)
	for _, x := range r {
		s.zero(s.Context, x)
	}
	return r
}

func expSum(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "ExpSum", "func(dst, x []float32, shift float32) float32", "dst", "x")
	shift, sum := s.broadcast("shift"), s.sums(sumLanes/w.lanes())
	s.run(len(sum), func(v int) {
		x := s.load("x")
		s.VSUBPS(shift, x, x)
		x = s.exp(x)
		s.store(x, "dst")
		s.clean(x)
		s.VADDPS(x, sum[v], sum[v])
	})
	s.fold(sum, func(x, y, d operand.Op) { s.VADDPS(x, y, d) }, 4)
	s.finish()
}

func dot(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "Dot", "func(x, y []float32) float32", "x", "y")
	sum := s.sums(sumLanes / w.lanes())
	s.run(len(sum), func(v int) {
		x := s.load("x")
		s.VFMADD231PS(s.load("y"), x, sum[v])
	})
	s.fold(sum, func(x, y, d operand.Op) { s.VADDPS(x, y, d) }, 4)
	s.finish()
}

// largest passes over NaN: max gives its second source then, which is the maximum so far.
func largest(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "Max", "func(x []float32) float32", "x")
	top := s.registers(c, sumLanes/w.lanes())
	fill := s.register(c)
	s.VMOVUPS(s.constant(minusInf), fill)
	for _, r := range top {
		s.VMOVAPS(fill, r)
	}
	s.run(len(top), func(v int) {
		s.VMAXPS(top[v], s.loadOr("x", fill), top[v])
	})
	s.fold(top, func(x, y, d operand.Op) { s.VMAXPS(x, y, d) }, 4)
	s.finish()
}

// sumSquares widens to float64, where a square is exact.
func sumSquares(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "SumSquares", "func(x []float32) float64", "x")
	sum := s.sums(2 * sumLanes / w.lanes())
	wide := s.register(c)
	s.run(len(sum)/2, func(v int) {
		x := s.load("x")
		for half, acc := range sum[2*v : 2*v+2] {
			s.VCVTPS2PD(s.half(x, half), wide)
			s.VFMADD231PD(wide, wide, acc)
		}
	})
	s.fold(sum, func(x, y, d operand.Op) { s.VADDPD(x, y, d) }, 8)
	s.finish()
}

// half is the low or high half of a register, as a register of half the width.
func (s *sweep) half(x reg.VecVirtual, high int) reg.VecVirtual {
	if s.bytes == 64 {
		if high == 0 {
			return x.AsY().(reg.VecVirtual)
		}
		y := s.YMM()
		s.VEXTRACTF64X4(operand.U8(1), x, y)
		return y
	}
	if high == 0 {
		return x.AsX().(reg.VecVirtual)
	}
	y := s.XMM()
	s.VEXTRACTF128(operand.U8(1), x, y)
	return y
}

// fold combines the upper half of all lanes with the lower half until one is left, and
// returns it from the function. size is the bytes of a lane.
func (s *sweep) fold(r []reg.VecVirtual, op binary, size int) {
	for n := len(r) / 2; n > 0; n /= 2 {
		for i := range n {
			op(r[i+n], r[i], r[i])
		}
	}
	x := r[0]
	if s.bytes == 64 {
		high, low := s.half(x, 1), x.AsY().(reg.VecVirtual)
		op(high, low, low)
		x = low
	}
	high := s.XMM()
	s.VEXTRACTF128(operand.U8(1), x.AsY(), high)
	low := x.AsX()
	op(high, low, low)
	s.VPERMILPD(operand.U8(1), low, high)
	op(high, low, low)
	if size == 4 {
		s.VMOVSHDUP(low, high)
		op(high, low, low)
	}
	s.Store(low, s.ReturnIndex(0))
}

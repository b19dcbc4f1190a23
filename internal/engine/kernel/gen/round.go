package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Predicates of a comparison.
const (
	unordered = 0x03
	greater   = 0x1e // ordered, quiet
)

// rounds writes the functions of round.go, for AVX2 alone: they are bound by memory, and
// the set "avx512" uses them too. Each takes the steps of its twin there; the parameters are
// in the order of its constants.
func rounds(c *build.Context) {
	t := tables{masks: newMasks(c, avx2)}
	roundWide(c, avx2, t)
	roundNarrow(c, avx2, t)
	maxAbs(c, avx2, t)
}

// parameter gives word i behind c in every lane.
func (s *sweep) parameter(c reg.GPVirtual, i int) reg.VecVirtual {
	r := s.register(s.Context)
	s.VBROADCASTSS(operand.Mem{Base: c, Disp: 4 * i}, r)
	return r
}

// choose puts yes in x's lanes for which left (predicate) right holds.
func (s *sweep) choose(predicate uint8, right, left, yes, x reg.VecVirtual) {
	mask := s.YMM()
	s.VCMPPS(operand.U8(predicate), right, left, mask)
	s.VBLENDVPS(mask, yes, x, x)
}

func roundWide(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "RoundWide", "func(dst, x []float32, c *[3]uint32)", "dst", "x")
	at := load(c, "c")
	shift, half, keep := s.parameter(at, 0), s.parameter(at, 1), s.parameter(at, 2)
	unit := s.ones(31)
	s.run(2, func(int) {
		x, odd := s.load("x"), s.register(c)
		s.VPSRLVD(shift, x, odd)
		s.VPAND(unit, odd, odd)
		s.VPADDD(half, odd, odd)
		s.VPADDD(x, odd, odd)
		s.VPAND(keep, odd, odd)
		s.choose(unordered, x, x, x, odd)
		s.store(odd, "dst")
	})
	s.finish()
}

// ones has the bits that are left of all ones shifted right by n, in every lane.
func (s *sweep) ones(n uint8) reg.VecVirtual {
	r := s.register(s.Context)
	s.VPCMPEQD(r, r, r)
	s.VPSRLD(operand.U8(n), r, r)
	return r
}

func roundNarrow(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "RoundNarrow", "func(dst, x []float32, c *[8]uint32)", "dst", "x")
	at := load(c, "c")
	inverse, scale, top, least := s.parameter(at, 0), s.parameter(at, 1), s.parameter(at, 2), s.parameter(at, 3)
	step, limit, over, zero := s.parameter(at, 4), s.parameter(at, 5), s.parameter(at, 6), s.parameter(at, 7)
	magnitude := s.ones(1)
	s.run(1, func(int) {
		x, y, magic := s.load("x"), s.register(c), s.register(c)
		s.VMULPS(inverse, x, x)
		s.VPAND(magnitude, x, y)
		s.VPXOR(y, x, x) // the sign
		// The second source is what min gives for a NaN: it has to be the value.
		s.VMINPS(y, top, y)
		s.VPSRLD(operand.U8(23), y, magic)
		s.VPSLLD(operand.U8(23), magic, magic)
		s.VPMAXSD(least, magic, magic)
		s.VPADDD(step, magic, magic)
		s.VADDPS(magic, y, y)
		s.VSUBPS(magic, y, y)
		s.choose(greater, limit, y, over, y)
		s.VMULPS(scale, y, y)
		s.VPXOR(x, y, y)
		s.VADDPS(zero, y, y)
		s.store(y, "dst")
	})
	s.finish()
}

func maxAbs(c *build.Context, w width, t tables) {
	s := newSweep(c, w, t, "MaxAbs", "func(x []float32) float32", "x")
	top := s.sums(sumLanes / w.lanes())
	magnitude := s.ones(1)
	s.run(len(top), func(v int) {
		x := s.load("x")
		s.VPAND(magnitude, x, x)
		s.VPMAXSD(x, top[v], top[v])
	})
	s.fold(top, func(x, y, d operand.Op) { s.VPMAXSD(x, y, d) }, 4)
	s.finish()
}

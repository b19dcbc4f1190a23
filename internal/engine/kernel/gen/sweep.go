package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sumLanes is the number of partial sums of every reduction, whatever the width:
// element i goes to lane i mod sumLanes.
const sumLanes = 32

// sweep is a walk over slices of one length, a block of registers at a time. What is
// left at the end takes the same steps under a mask.
type sweep struct {
	*build.Context
	width
	constants operand.Mem
	masks     operand.Mem // AVX2: eight words of ones, eight of zeros
	base      map[string]reg.GPVirtual
	i, n      reg.GPVirtual // elements done and left

	disp  int // of the current register in its block
	tail  bool
	mask  reg.VecVirtual    // AVX2
	kmask reg.OpmaskVirtual // AVX-512
}

// newSweep starts a function over the named slices; the first one gives the length.
func newSweep(c *build.Context, w width, t tables, name, signature string, slices ...string) *sweep {
	c.Function(w.name + name)
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr(signature)
	c.Pragma("noescape")
	s := &sweep{
		Context: c, width: w, constants: t.constants, masks: t.masks,
		base: map[string]reg.GPVirtual{}, i: c.GP64(), n: c.GP64(),
	}
	for _, slice := range slices {
		s.base[slice] = c.GP64()
		c.Load(c.Param(slice).Base(), s.base[slice])
	}
	c.Load(c.Param(slices[0]).Len(), s.n)
	c.XORQ(s.i, s.i)
	return s
}

// run walks in blocks of vecs registers; body does register v of a block.
func (s *sweep) run(vecs int, body func(v int)) {
	block := operand.I32(vecs * s.lanes())
	s.CMPQ(s.n, block)
	s.JLT(operand.LabelRef("rest0"))
	s.Label("block")
	for v := range vecs {
		s.disp = v * s.bytes
		body(v)
	}
	s.disp = 0
	s.ADDQ(block, s.i)
	s.SUBQ(block, s.n)
	s.CMPQ(s.n, block)
	s.JGE(operand.LabelRef("block"))
	for v := range vecs {
		s.rest(v, v == vecs-1, body)
	}
	s.Label("done")
}

// rest does register v of the last block, which may be whole unless it is the last
// register of the block.
func (s *sweep) rest(v int, last bool, body func(v int)) {
	s.Label(fmt.Sprintf("rest%d", v))
	if !last {
		s.CMPQ(s.n, operand.I32(s.lanes()))
		s.JLT(operand.LabelRef(fmt.Sprintf("masked%d", v)))
		body(v)
		s.ADDQ(operand.I32(s.lanes()), s.i)
		s.SUBQ(operand.I32(s.lanes()), s.n)
		s.JMP(operand.LabelRef(fmt.Sprintf("rest%d", v+1)))
		s.Label(fmt.Sprintf("masked%d", v))
	}
	s.TESTQ(s.n, s.n)
	s.JZ(operand.LabelRef("done"))
	s.setMask()
	s.tail = true
	body(v)
	s.tail = false
	if !last {
		s.JMP(operand.LabelRef("done"))
	}
}

// setMask selects the first n lanes.
func (s *sweep) setMask() {
	t := s.GP64()
	if s.bytes == 64 {
		s.kmask = s.K()
		s.MOVQ(operand.I32(-1), t)
		s.BZHIQ(s.n, t, t)
		s.KMOVW(t.As32(), s.kmask)
		return
	}
	s.mask = s.YMM()
	b := s.GP64()
	s.MOVQ(s.n, t)
	s.NEGQ(t)
	s.LEAQ(s.masks, b)
	s.VMOVUPS(operand.Mem{Base: b, Disp: 32, Index: t, Scale: 4}, s.mask)
}

func (s *sweep) at(slice string) operand.Mem {
	return operand.Mem{Base: s.base[slice], Index: s.i, Scale: 4, Disp: s.disp}
}

// load gives the current register of a slice; lanes beyond its end are zero.
func (s *sweep) load(slice string) reg.VecVirtual {
	r := s.register(s.Context)
	switch {
	case !s.tail:
		s.VMOVUPS(s.at(slice), r)
	case s.bytes == 64:
		s.VMOVUPS_Z(s.at(slice), s.kmask, r)
	default:
		s.VMASKMOVPS(s.at(slice), s.mask, r)
	}
	return r
}

// loadOr is load with the lanes beyond the end taken from fill.
func (s *sweep) loadOr(slice string, fill reg.VecVirtual) reg.VecVirtual {
	if !s.tail {
		return s.load(slice)
	}
	r := s.register(s.Context)
	if s.bytes == 64 {
		s.VMOVAPS(fill, r)
		s.VMOVUPS(s.at(slice), s.kmask, r)
		return r
	}
	x := s.load(slice)
	s.VBLENDVPS(s.mask, x, fill, r)
	return r
}

// store writes the lanes that are within the slice.
func (s *sweep) store(r reg.VecVirtual, slice string) {
	switch {
	case !s.tail:
		s.VMOVUPS(r, s.at(slice))
	case s.bytes == 64:
		s.VMOVUPS(r, s.kmask, s.at(slice))
	default:
		s.VMASKMOVPS(r, s.mask, s.at(slice))
	}
}

// clean sets lanes beyond the end to zero.
func (s *sweep) clean(r reg.VecVirtual) {
	switch {
	case !s.tail:
	case s.bytes == 64:
		s.VMOVAPS_Z(r, s.kmask, r)
	default:
		s.VANDPS(s.mask, r, r)
	}
}

// broadcast loads a scalar parameter to all lanes.
func (s *sweep) broadcast(param string) reg.VecVirtual {
	b, err := s.Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	r := s.register(s.Context)
	s.VBROADCASTSS(b.Addr, r)
	return r
}

// finish ends the function.
func (s *sweep) finish() {
	s.VZEROUPPER()
	s.RET()
}

package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// width is an instruction set seen as the width of its registers.
type width struct {
	name  string
	bytes int // of a register
	rows  int // rows of the largest product tile: two registers each, four are left
}

var (
	avx2   = width{"avx2", 32, 6}
	avx512 = width{"avx512", 64, 14}
)

// lanes is the number of float32 in a register.
func (w width) lanes() int { return w.bytes / 4 }

// register is a fresh vector register.
func (w width) register(c *build.Context) reg.VecVirtual {
	if w.bytes == 64 {
		return c.ZMM()
	}
	return c.YMM()
}

func (w width) registers(c *build.Context, n int) []reg.VecVirtual {
	r := make([]reg.VecVirtual, n)
	for i := range r {
		r[i] = w.register(c)
	}
	return r
}

// zero clears a register. AVX-512 without DQ has no floating-point XOR.
func (w width) zero(c *build.Context, r reg.VecVirtual) {
	if w.bytes == 64 {
		c.VPXORD(r, r, r)
		return
	}
	c.VXORPS(r, r, r)
}

// load puts a pointer or integer parameter in a fresh register.
func load(c *build.Context, name string) reg.GPVirtual {
	r := c.GP64()
	c.Load(c.Param(name), r)
	return r
}

// inBytes turns a count of float32 into bytes.
func inBytes(c *build.Context, r reg.GPVirtual) reg.GPVirtual {
	c.SHLQ(operand.U8(2), r)
	return r
}

package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// constant names one entry of the table of constants, which holds each one once for
// every lane of the widest register.
type constant int

const (
	one constant = iota
	minusInf
	expTop
	expBottom
	expLog2E
	expRound
	expLn2Hi
	expLn2Lo
	expC5
	expC4
	expC3
	expC2
	expC1
	expC0
	expBias // integer
	constants
)

// bits gives the constants of the exponential as vector_go.go explains them.
func (k constant) bits() uint32 {
	if k == expBias {
		return 127
	}
	return math.Float32bits([...]float32{
		one: 1, minusInf: float32(math.Inf(-1)),
		expTop: 89, expBottom: -104,
		expLog2E: 1.44269504088896341, expRound: 3 << 22,
		expLn2Hi: 0.693359375, expLn2Lo: -2.12194440e-4,
		expC5: 1.9875691500e-4, expC4: 1.3981999507e-3, expC3: 8.3334519073e-3,
		expC2: 4.1665795894e-2, expC1: 1.6666665459e-1, expC0: 5.0000001201e-1,
	}[k])
}

// tables are the read-only data of a file.
type tables struct{ constants, masks operand.Mem }

func newTables(c *build.Context, w width) tables {
	var t tables
	t.constants = c.StaticGlobal(w.name + "Constants")
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	for k := range constants {
		for range w.lanes() {
			c.AppendDatum(operand.U32(k.bits()))
		}
	}
	if w == avx2 {
		t.masks = newMasks(c, w)
	}
	return t
}

// newMasks are the words that AVX2 selects the first lanes of a register with.
func newMasks(c *build.Context, w width) operand.Mem {
	masks := c.StaticGlobal(w.name + "Masks")
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range 16 {
		c.AppendDatum(operand.U32([]uint32{math.MaxUint32, 0}[i/8]))
	}
	return masks
}

// constant is the place of a constant in memory.
func (s *sweep) constant(k constant) operand.Mem { return s.constants.Offset(int(k) * s.bytes) }

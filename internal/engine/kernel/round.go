package kernel

import (
	"math"

	"github.com/mistura-project/mistura/internal/engine/numeric"
)

// Rounding is a number format made ready to round slices to, with a scale: values are
// divided by it before and multiplied with it after.
type Rounding struct {
	wide   [wideWords]uint32   // for formats with the exponent of fp32
	narrow [narrowWords]uint32 // for all others; zero for the former
}

// wideWords are the parameters of roundWide.
const (
	wideShift = iota // bits that go
	wideHalf         // half of the last bit that stays, less one
	wideKeep         // mask of the bits that stay
	wideWords
)

// narrowWords are the parameters of roundNarrow; all but the two exponents are float32.
const (
	narrowInverse = iota // of the scale
	narrowScale
	narrowTop   // magnitudes are cut to it first: twice the largest power of two, so that nothing overflows
	narrowLeast // smallest normal value, whose bits are its exponent
	narrowStep  // integer: added to an exponent it makes the number whose last bit is the format's
	narrowLimit // largest finite value
	narrowOver  // what is beyond
	narrowZero  // added last: -0 changes nothing, +0 takes the sign off a zero
	narrowWords
)

// NewRounding prepares the format for an unscaled use. It panics for fp32.
func NewRounding(f numeric.Format) Rounding {
	var r Rounding
	if f.IsFP32() {
		panic("kernel: rounding to fp32")
	}
	if f.Exponent == 8 {
		shift := uint32(23 - f.Mantissa)
		r.wide = [wideWords]uint32{wideShift: shift, wideHalf: 1<<(shift-1) - 1, wideKeep: ^uint32(1<<shift - 1)}
		return r
	}
	over := math.Inf(1)
	switch {
	case f.Saturate:
		over = float64(f.Max)
	case f.Specials != numeric.IEEE:
		over = math.NaN()
	}
	zero := math.Copysign(0, -1)
	if f.Specials == numeric.FNUZ {
		zero = 0
	}
	_, top := math.Frexp(float64(f.Max))
	word := func(x float64) uint32 { return math.Float32bits(float32(x)) }
	r.narrow = [narrowWords]uint32{
		narrowInverse: word(1), narrowScale: word(1),
		narrowTop: word(math.Ldexp(1, top)), narrowLeast: word(math.Ldexp(1, f.MinExponent())),
		narrowStep: uint32(23-f.Mantissa) << 23, narrowLimit: word(float64(f.Max)),
		narrowOver: word(over), narrowZero: word(zero),
	}
	return r
}

// Scaled is the rounding with another scale; inverse is one over it. Formats with the
// exponent of fp32 have no scale, and it panics.
func (r Rounding) Scaled(scale, inverse float32) Rounding {
	if r.narrow[narrowTop] == 0 {
		panic("kernel: a scale for a format with the range of fp32")
	}
	r.narrow[narrowInverse], r.narrow[narrowScale] = math.Float32bits(inverse), math.Float32bits(scale)
	return r
}

// Round is dst = x rounded to nearest even, subnormals as well: scale·f.Round(x·inverse). NaN
// stays NaN. dst may be x.
func (s *Set) Round(dst, x []float32, r *Rounding) {
	equal(len(dst), len(x))
	if r.narrow[narrowTop] == 0 {
		s.vec.roundWide(dst, x, &r.wide)
		return
	}
	s.vec.roundNarrow(dst, x, &r.narrow)
}

// MaxAbs is the largest magnitude, 0 for an empty slice and NaN where there is one.
func (s *Set) MaxAbs(x []float32) float32 { return s.vec.maxAbs(x) }

const signBit = 1 << 31

// goRoundWide adds half of the last bit that stays, or a little less when that bit is
// even, and cuts off.
func goRoundWide(dst, x []float32, c *[wideWords]uint32) {
	x = x[:len(dst)]
	shift, half, keep := c[wideShift]&31, c[wideHalf], c[wideKeep]
	for i, v := range x {
		u := math.Float32bits(v)
		if v == v {
			u = (u + half + u>>shift&1) & keep
		}
		dst[i] = math.Float32frombits(u)
	}
}

// goRoundNarrow adds and takes off a power of two whose last bit is the last bit of the
// format at the value's exponent: the addition rounds, to nearest even. At and below the
// smallest normal exponent that bit stays where it is.
func goRoundNarrow(dst, x []float32, c *[narrowWords]uint32) {
	x = x[:len(dst)]
	float := math.Float32frombits
	inverse, scale, top, limit := float(c[narrowInverse]), float(c[narrowScale]), float(c[narrowTop]), float(c[narrowLimit])
	over, zero, least, step := float(c[narrowOver]), float(c[narrowZero]), c[narrowLeast], c[narrowStep]
	for i, v := range x {
		u := math.Float32bits(float32(v * inverse))
		sign := u & signBit
		a := float(u &^ signBit)
		if a > top {
			a = top
		}
		magic := float(max(math.Float32bits(a)&0x7f800000, least) + step)
		y := (a + magic) - magic
		if y > limit {
			y = over
		}
		y = float32(y * scale)
		dst[i] = float(math.Float32bits(y)|sign) + zero
	}
}

// goMaxAbs compares bits: those of a NaN are the largest.
func goMaxAbs(x []float32) float32 {
	top := uint32(0)
	for _, v := range x {
		top = max(top, math.Float32bits(v)&^signBit)
	}
	return math.Float32frombits(top)
}

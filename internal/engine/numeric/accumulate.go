package numeric

import (
	"math"
	"math/bits"
)

// Accumulation is how a matrix unit adds up the products of an inner dimension.
// The zero Accumulation is fp32's: one chain of fused or rounded float32
// additions, which is what the engine's own kernels do.
type Accumulation struct {
	Name   string
	Source string
	Kind   Kind
	Group  int // products that are added in one go
	// Fraction is the number of bits kept below the largest exponent of a group;
	// what lies lower is cut off.
	Fraction int
	// Result is the number of fraction bits of the running sum, 23 for a float32.
	Result int
	// Promote is the number of products after which the running sum is added to
	// an fp32 one and starts again from zero; 0: never.
	Promote int
}

// Kind is the arithmetic of a group.
type Kind uint8

const (
	// Plain: no groups, fp32 (the zero Accumulation).
	Plain Kind = iota
	// Aligned: running sum and exact products are shifted to the largest exponent,
	// cut off, added as integers and cut off again (Nvidia).
	Aligned
	// AlignedTwice: exact products are shifted to their largest exponent, cut off
	// and added; that and the running sum are shifted, rounded down and added; the
	// sum is rounded to nearest even (AMD CDNA3).
	AlignedTwice
	// Pairwise: rounded products are added in pairs, pairs of pairs and so on in
	// fp32; subnormals are flushed to zero on the way in and after every addition
	// (AMD CDNA2).
	Pairwise
)

const mmaSim = "MMA-Sim, arXiv 2511.10909, and its released simulator"

// HopperFP8 is the FP8 product of Nvidia H100, H800 and H20.
func HopperFP8() Accumulation {
	return Accumulation{Name: "hopper-fp8", Source: mmaSim, Kind: Aligned, Group: 32, Fraction: 13, Result: 13}
}

// HopperFP8Promoted is HopperFP8 with partial sums added in fp32 every 128
// products, the remedy of DeepSeek-V3 (arXiv 2412.19437, section 3.3.2).
func HopperFP8Promoted() Accumulation {
	a := HopperFP8()
	a.Name, a.Source, a.Promote = "hopper-fp8-promoted", mmaSim+"; promotion: arXiv 2412.19437, section 3.3.2", 128
	return a
}

// Hopper is the bf16 and fp16 product of Nvidia H100, H800 and H20.
func Hopper() Accumulation {
	return Accumulation{Name: "hopper", Source: mmaSim, Kind: Aligned, Group: 16, Fraction: 25, Result: 23}
}

// Ampere is the bf16 and fp16 product of Nvidia A100 and A800.
func Ampere() Accumulation {
	return Accumulation{Name: "ampere", Source: mmaSim, Kind: Aligned, Group: 8, Fraction: 24, Result: 23}
}

// CDNA3 is the bf16 and fp16 product of AMD MI300X and MI325X.
func CDNA3() Accumulation {
	return Accumulation{Name: "cdna3", Source: mmaSim, Kind: AlignedTwice, Group: 8, Fraction: 24, Result: 23}
}

// CDNA2 is the bf16 (instructions ending in _1k) and fp16 product of AMD MI250X.
func CDNA2() Accumulation {
	return Accumulation{Name: "cdna2", Source: mmaSim + "; AMD, MIOpen, MI200 alternate implementation", Kind: Pairwise, Group: 4, Result: 23}
}

// Accumulations lists all models but fp32.
func Accumulations() []Accumulation {
	return []Accumulation{HopperFP8(), HopperFP8Promoted(), Hopper(), Ampere(), CDNA3(), CDNA2()}
}

// String is the model's name.
func (m Accumulation) String() string {
	if m.Kind == Plain {
		return "fp32"
	}
	return m.Name
}

// Dot gives c + Σ a·b. minA and minB are the smallest normal exponents of the
// formats that a and b are of: below them a matrix unit does not shift
// significands up.
//
// c is the running sum of the products before; it must stand at a multiple of
// Promote when there is one.
func (m Accumulation) Dot(c float32, a, b []float32, minA, minB int) float32 {
	if m.Promote == 0 {
		return m.chain(c, a, b, minA, minB)
	}
	for len(a) > 0 {
		n := min(m.Promote, len(a))
		c += m.chain(0, a[:n], b[:n], minA, minB)
		a, b = a[n:], b[n:]
	}
	return c
}

// chain goes group by group.
func (m Accumulation) chain(c float32, a, b []float32, minA, minB int) float32 {
	if m.Kind == Plain {
		for i := range a {
			c += float32(a[i] * b[i])
		}
		return c
	}
	for len(a) > 0 {
		n := min(m.Group, len(a))
		c = m.group(c, a[:n], b[:n], minA, minB)
		a, b = a[n:], b[n:]
	}
	return c
}

func (m Accumulation) group(c float32, a, b []float32, minA, minB int) float32 {
	if m.Kind == Pairwise {
		return flush(flush(c) + pairs(a, b, minA, minB))
	}
	if special, ok := notFinite(c, a, b, m.Kind == AlignedTwice); ok {
		return special
	}
	if m.Kind == Aligned {
		return m.aligned(c, a, b, minA, minB)
	}
	return m.alignedTwice(c, a, b, minA, minB)
}

// notFinite gives the sum where it is decided by an infinity or a NaN. Products of
// finite values are exact in a matrix unit and do not overflow, but on CDNA3
// they do.
func notFinite(c float32, a, b []float32, overflow bool) (float32, bool) {
	finite, special := finite32(c), float32(0)
	if !finite {
		special = c
	}
	for i := range a {
		given := !finite32(a[i]) || !finite32(b[i])
		if p := float32(a[i] * b[i]); given || overflow && math.Abs(float64(a[i])*float64(b[i])) >= 0x1p128 {
			finite = false
			special += p
		}
	}
	return special, !finite
}

func finite32(x float32) bool { return math.Float32bits(x)&0x7f800000 != 0x7f800000 }

// term is significand·2^low. For the alignment it has the exponent that its factors'
// codes add up to: a product may be up to four times 2^exponent, a subnormal one is
// less than 2^exponent.
type term struct {
	significand   int64
	exponent, low int
}

// split takes a float32 apart; exponents stay at or above least.
func split(x float32, least int) term {
	u := math.Float32bits(x)
	exponent, significand := int(u>>23&0xff), int64(u&(1<<23-1))
	if exponent == 0 {
		exponent = 1
	} else {
		significand |= 1 << 23
	}
	if u>>31 == 1 {
		significand = -significand
	}
	low := exponent - 127 - 23
	return term{significand, max(exponent-127, least), low}
}

// product is exact. Trailing zeros are dropped first, so that it fits.
func product(a, b float32, minA, minB int) term {
	x, y := split(a, minA), split(b, minB)
	if x.significand == 0 || y.significand == 0 {
		return term{exponent: math.MinInt32}
	}
	x, y = x.trim(), y.trim()
	return term{x.significand * y.significand, x.exponent + y.exponent, x.low + y.low}
}

func (t term) trim() term {
	zeros := bits.TrailingZeros64(uint64(t.significand))
	t.significand >>= zeros
	t.low += zeros
	return t
}

// in gives the term in units of 2^low, what is lower cut off.
func (t term) in(low int) int64 {
	if t.significand == 0 {
		return 0
	}
	shift := t.low - low
	if shift >= 0 {
		return t.significand << shift
	}
	if t.significand < 0 {
		return -(-t.significand >> min(-shift, 63))
	}
	return t.significand >> min(-shift, 63)
}

// floor is in with rounding down.
func (t term) floor(low int) int64 {
	shift := t.low - low
	if t.significand == 0 || shift >= 0 {
		return t.in(low)
	}
	return t.significand >> min(-shift, 63)
}

// leastExponent is that of a float32: an accumulator of zero stands there.
const leastExponent = -126

// aligned is Nvidia's group: one alignment of products and running sum. A product
// with zero is taken to have no part in the alignment (the published model leaves
// that open for operands of very different size).
func (m Accumulation) aligned(c float32, a, b []float32, minA, minB int) float32 {
	sum := split(c, leastExponent)
	top := sum.exponent
	if c == 0 {
		top = leastExponent
	}
	for i := range a {
		top = max(top, product(a[i], b[i], minA, minB).exponent)
	}
	low := top - m.Fraction
	total := sum.in(low)
	for i := range a {
		total += product(a[i], b[i], minA, minB).in(low)
	}
	return assemble(total, low, m.Result, false)
}

// CDNA3 keeps this many bits of the sum of products and of the running sum when it
// adds the two.
const (
	cdna3Products = 31
	cdna3Running  = 24
)

// alignedTwice is CDNA3's group.
func (m Accumulation) alignedTwice(c float32, a, b []float32, minA, minB int) float32 {
	top := math.MinInt32
	for i := range a {
		top = max(top, product(a[i], b[i], minA, minB).exponent)
	}
	if top == math.MinInt32 {
		return c
	}
	low := top - m.Fraction
	products := term{exponent: top, low: low}
	for i := range a {
		products.significand += product(a[i], b[i], minA, minB).in(low)
	}
	return m.together(c, products)
}

// together is the second half of alignedTwice.
func (m Accumulation) together(c float32, products term) float32 {
	sum := split(c, leastExponent)
	both := max(products.exponent, sum.exponent)
	fine := both - cdna3Products
	total := products.floor(fine) + sum.floor(both-cdna3Running)<<(cdna3Products-cdna3Running)
	return assemble(total, fine, m.Result, true)
}

// assemble makes a float32 of total·2^low with the given number of fraction bits,
// rounded to nearest even or cut off.
func assemble(total int64, low, fraction int, nearest bool) float32 {
	if total == 0 {
		return 0
	}
	magnitude, sign := uint64(total), uint32(0)
	if total < 0 {
		magnitude, sign = uint64(-total), 1<<31
	}
	exponent := max(low+bits.Len64(magnitude)-1, leastExponent)
	drop := exponent - fraction - low
	kept := magnitude
	switch {
	case drop > 63:
		kept = 0
	case drop > 0:
		kept = magnitude >> drop
		rest, half := magnitude&(1<<drop-1), uint64(1)<<(drop-1)
		if nearest && (rest > half || rest == half && kept&1 == 1) {
			kept++
		}
		low += drop
	}
	y := math.Ldexp(float64(kept), low) // exact: at most 25 bits
	if y > math.MaxFloat32 {
		y = math.Inf(1) // beyond fp32 whatever the rounding
	}
	return math.Float32frombits(math.Float32bits(float32(y)) | sign)
}

// flush is CDNA2's: subnormals become zero of the same sign.
func flush(x float32) float32 { return flushBelow(x, leastExponent) }

func flushBelow(x float32, least int) float32 {
	if u := math.Float32bits(x); int(u>>23&0xff) < least+127 {
		return math.Float32frombits(u & (1 << 31))
	}
	return x
}

// pairs adds products in pairs.
func pairs(a, b []float32, minA, minB int) float32 {
	if len(a) == 1 {
		return flush(flushBelow(a[0], minA) * flushBelow(b[0], minB))
	}
	half := len(a) / 2
	return flush(pairs(a[:half], b[:half], minA, minB) + pairs(a[half:], b[half:], minA, minB))
}

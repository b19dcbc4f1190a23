package numeric

import "math"

// Operand is a matrix [rows, k] made ready to be multiplied: what every product asks
// of an element is worked out once.
type Operand struct {
	K         int
	values    []float64
	exponents []int16 // as the format's codes have them; zeroExponent for zero
	finite    []bool  // per row
	least     int     // smallest normal exponent of the format
	plain     []float32
}

// zeroExponent takes a zero out of every alignment.
const zeroExponent = -1 << 13

// Load fills the operand with x [rows, k], values of a format whose smallest normal
// exponent is least. x is kept until the next Load. Where values have scales per block,
// scales are [blocks of k][rows]: a subnormal of the format stands as much higher or lower
// as its scale says; no scales: 1.
func (o *Operand) Load(x []float32, rows, k, least int, scales []float32) {
	o.K, o.least, o.plain = k, least, x[:rows*k]
	o.values, o.exponents, o.finite = grow(o.values, rows*k), grow(o.exponents, rows*k), grow(o.finite, rows)
	for r := range rows {
		o.finite[r] = true
		for i := r * k; i < (r+1)*k; i++ {
			u := math.Float32bits(x[i])
			o.values[i] = float64(x[i])
			exponent := max(int(u>>23&0xff), 1) - 127
			o.exponents[i] = int16(max(exponent, least+scaleExponent(scales, rows, r, i-r*k)))
			if u<<1 == 0 {
				o.exponents[i] = zeroExponent
			}
			o.finite[r] = o.finite[r] && exponent < 128
		}
	}
}

// scaleExponent is that of the scale of element i of row r.
func scaleExponent(scales []float32, rows, r, i int) int {
	if len(scales) == 0 {
		return 0
	}
	return int(math.Float32bits(scales[i/ScaleBlock*rows+r])>>23&0xff) - 127
}

func grow[T any](x []T, n int) []T {
	if cap(x) < n {
		return make([]T, n)
	}
	return x[:n]
}

// Multiply is C [m, n] += A [m, k] · Bᵀ [n, k]: Dot for every element, and the same
// bits. ldc is the number of elements from one row of c to the next.
func (m Accumulation) Multiply(c []float32, ldc int, a, b *Operand) {
	for i := range len(a.finite) {
		for j := range len(b.finite) {
			at := i*ldc + j
			if a.finite[i] && b.finite[j] && finite32(c[at]) {
				switch m.Kind {
				case Aligned:
					c[at] = m.alignedRow(c[at], a, b, i*a.K, j*b.K)
					continue
				case AlignedTwice:
					c[at] = m.alignedTwiceRow(c[at], a, b, i*a.K, j*b.K)
					continue
				}
			}
			c[at] = m.Dot(c[at], a.plain[i*a.K:(i+1)*a.K], b.plain[j*b.K:(j+1)*b.K], a.least, b.least)
		}
	}
}

// alignedRow is Dot for Aligned accumulation of finite values.
func (m Accumulation) alignedRow(c float32, a, b *Operand, i, j int) float32 {
	run := a.K
	if m.Promote > 0 {
		run = m.Promote
	}
	for from := 0; from < a.K; from += run {
		sum := c
		if m.Promote > 0 {
			sum = 0
		}
		to := min(from+run, a.K)
		for g := from; g < to; g += m.Group {
			h := min(g+m.Group, to)
			sum = m.alignedGroup(sum, a.values[i+g:i+h], b.values[j+g:j+h], a.exponents[i+g:i+h], b.exponents[j+g:j+h])
		}
		if m.Promote > 0 {
			sum += c
		}
		c = sum
	}
	return c
}

// alignedGroup is aligned in another way: a product of two float32 is exact in
// float64, a power of two moves it to its place, and the conversion to an integer cuts
// it off.
func (m Accumulation) alignedGroup(c float32, a, b []float64, ea, eb []int16) float32 {
	b, ea, eb = b[:len(a)], ea[:len(a)], eb[:len(a)]
	top := int16(max(int(math.Float32bits(c)>>23&0xff), 1) - 127)
	for i := range ea {
		top = max(top, ea[i]+eb[i])
	}
	low := int(top) - m.Fraction
	scale := powerOfTwo(-low)
	total := int64(float64(c) * scale)
	for i := range a {
		total += int64(a[i] * b[i] * scale)
	}
	return assemble(total, low, m.Result, false)
}

// alignedTwiceRow is Dot for AlignedTwice accumulation of finite values, in the same way.
func (m Accumulation) alignedTwiceRow(c float32, a, b *Operand, i, j int) float32 {
	for g := 0; g < a.K; g += m.Group {
		h := min(g+m.Group, a.K)
		top := int16(2 * zeroExponent)
		for k := g; k < h; k++ {
			top = max(top, a.exponents[i+k]+b.exponents[j+k])
		}
		switch {
		case top < zeroExponent/2: // products with zero only
		case top > 125 || !finite32(c): // one of them may be 2^128, which is infinity
			c = m.group(c, a.plain[i+g:i+h], b.plain[j+g:j+h], a.least, b.least)
		default:
			products := term{exponent: int(top), low: int(top) - m.Fraction}
			scale := powerOfTwo(-products.low)
			for k := g; k < h; k++ {
				products.significand += int64(a.values[i+k] * b.values[j+k] * scale)
			}
			c = m.together(c, products)
		}
	}
	return c
}

// powerOfTwo is 2^n for n from -1022 to 1023.
func powerOfTwo(n int) float64 { return math.Float64frombits(uint64(n+1023) << 52) }

package numeric

import "math"

// Scaling is how values are brought into the range of an 8-bit format. Scales are
// powers of two, so that scaling and its reverse are exact in fp32.
type Scaling uint8

const (
	// Unscaled values are rounded as they are.
	Unscaled Scaling = iota
	// PerBlock: a scale for every 128 values along the inner dimension of an
	// activation or gradient, and for every 128×128 block of a weight
	// (DeepSeek-V3, arXiv 2412.19437, section 3.3.2), from the block's own
	// largest magnitude.
	PerBlock
	// PerTensor: one scale for a tensor, from the largest magnitude that it had
	// in the last AmaxHistory steps; 1 before the first (delayed scaling,
	// arXiv 2209.05433 and Transformer Engine's recipe DelayedScaling with margin 0).
	PerTensor
)

// String names the scaling as a reader of a table would.
func (s Scaling) String() string { return [...]string{"none", "per block", "per tensor"}[s] }

const (
	// ScaleBlock is the length of a block.
	ScaleBlock = 128
	// AmaxHistory is the number of steps that a scale per tensor looks back, as in
	// the examples of Transformer Engine (its default, 1024, outlasts a small run).
	AmaxHistory = 16
	// maxScaleExponent keeps scales and their inverses normal float32 numbers.
	maxScaleExponent = 120
)

// Scale gives the smallest power of two that values up to amax may be divided by to fit
// the format without saturation, and its inverse. It is 1 for 0, and NaN where amax is not
// finite: a block with such a value becomes NaN as a whole, so that it is seen.
func (f Format) Scale(amax float32) (scale, inverse float32) {
	if amax == 0 {
		return 1, 1
	}
	if !finite32(amax) {
		nan := float32(math.NaN())
		return nan, nan
	}
	fraction, exponent := math.Frexp(float64(amax))
	top, topExponent := math.Frexp(float64(f.Max))
	n := exponent - topExponent
	if fraction > top {
		n++
	}
	n = min(max(n, -maxScaleExponent), maxScaleExponent)
	return float32(math.Ldexp(1, n)), float32(math.Ldexp(1, -n))
}

// RoundScaled is x/scale rounded, times scale.
func (f Format) RoundScaled(x, scale, inverse float32) float32 {
	return f.Round(x*inverse) * scale
}

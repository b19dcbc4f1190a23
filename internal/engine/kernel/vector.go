package kernel

import (
	"fmt"
	"math"
	"slices"
)

// vector is the slice functions of one set. Lengths are checked before the call.
type vector struct {
	axpy       func(y, x []float32, alpha float32)
	scale      func(x []float32, alpha float32)
	add        func(y, x []float32)
	scaleMul   func(dst, x, z []float32, alpha float32)
	addMul     func(y, x, z []float32, alpha float32)
	mulSub     func(dst, p, x []float32, shift float32)
	swiGLU     func(dst, gate, up []float32)
	swiGLUGrad func(dGate, dUp, gate, up, dOut []float32)
	adamW      func(params, grads, m, v []float32, c AdamWStep)
	expSum     func(dst, x []float32, shift float32) float32
	dot        func(x, y []float32) float32
	sumSquares func(x []float32) float64
	max        func(x []float32) float32

	// round.go
	roundWide   func(dst, x []float32, c *[wideWords]uint32)
	roundNarrow func(dst, x []float32, c *[narrowWords]uint32)
	maxAbs      func(x []float32) float32
}

// Destinations may be the same slice as a source, but must not overlap one in
// part. Slices of unequal length panic.

// Axpy is y += alpha·x.
func (s *Set) Axpy(y, x []float32, alpha float32) {
	equal(len(y), len(x))
	s.vec.axpy(y, x, alpha)
}

// Scale is x *= alpha.
func (s *Set) Scale(x []float32, alpha float32) { s.vec.scale(x, alpha) }

// Add is y += x.
func (s *Set) Add(y, x []float32) {
	equal(len(y), len(x))
	s.vec.add(y, x)
}

// ScaleMul is dst = (alpha·x)·z: RMSNorm with z the gain and alpha one over the root.
func (s *Set) ScaleMul(dst, x, z []float32, alpha float32) {
	equal(len(dst), len(x), len(z))
	s.vec.scaleMul(dst, x, z, alpha)
}

// AddMul is y += (alpha·x)·z: the gradient of a gain.
func (s *Set) AddMul(y, x, z []float32, alpha float32) {
	equal(len(y), len(x), len(z))
	s.vec.addMul(y, x, z, alpha)
}

// MulSub is dst = p·(x - shift): the gradient of a softmax p, given the gradient x of its
// output and shift = Dot(p, x).
func (s *Set) MulSub(dst, p, x []float32, shift float32) {
	equal(len(dst), len(p), len(x))
	s.vec.mulSub(dst, p, x, shift)
}

// SwiGLU is dst = silu(gate)·up with silu(g) = g/(1+exp(-g)).
func (s *Set) SwiGLU(dst, gate, up []float32) {
	equal(len(dst), len(gate), len(up))
	s.vec.swiGLU(dst, gate, up)
}

// SwiGLUGrad overwrites dGate and dUp with the gradients of SwiGLU's inputs, given
// the gradient dOut of its output.
func (s *Set) SwiGLUGrad(dGate, dUp, gate, up, dOut []float32) {
	equal(len(dGate), len(dUp), len(gate), len(up), len(dOut))
	s.vec.swiGLUGrad(dGate, dUp, gate, up, dOut)
}

// ExpSum is dst = exp(x - shift) and gives the sum of dst: a softmax's numerators
// and denominator when shift is Max(x). Results below 2^-126 are rounded as denormals;
// above the largest float32 they are +Inf. One result is within 2 units in the last
// place of exp of the rounded difference.
func (s *Set) ExpSum(dst, x []float32, shift float32) float32 {
	equal(len(dst), len(x))
	return s.vec.expSum(dst, x, shift)
}

// Softmax overwrites x with its softmax and gives the maximum and the sum of the
// shifted exponentials: the log of the denominator is top + log(sum). A NaN or +Inf makes the
// whole of x NaN.
func (s *Set) Softmax(x []float32) (top, sum float32) {
	top = s.vec.max(x)
	sum = s.vec.expSum(x, x, top)
	s.vec.scale(x, 1/sum)
	return top, sum
}

// Dot is the inner product of x and y.
func (s *Set) Dot(x, y []float32) float32 {
	equal(len(x), len(y))
	return s.vec.dot(x, y)
}

// SumSquares is the sum of x·x, taken in float64.
func (s *Set) SumSquares(x []float32) float64 { return s.vec.sumSquares(x) }

// Max is the largest element; NaN elements are passed over, and an empty slice gives -Inf.
func (s *Set) Max(x []float32) float32 { return s.vec.max(x) }

// AdamWStep holds the scalars of one update (Loshchilov and Hutter, arXiv 1711.05101,
// algorithm 2, with the rate applied to the decay). NewAdamWStep fills it.
type AdamWStep struct {
	Beta1, Rest1 float32 // decay of the first moment, and one minus it
	Beta2, Rest2 float32 // decay of the second moment, and one minus it
	Bias1, Bias2 float32 // 1/(1-beta^step)
	Eps          float32 // added to the root of the second moment
	Decay        float32 // weight decay
	Rate         float32 // learning rate
	GradScale    float32 // factor on every gradient: 1, or less to clip
}

// NewAdamWStep computes the scalars of update number step, which counts from 1.
func NewAdamWStep(beta1, beta2, eps, decay, rate, gradScale float64, step uint64) AdamWStep {
	return AdamWStep{
		Beta1: float32(beta1), Rest1: float32(1 - beta1),
		Beta2: float32(beta2), Rest2: float32(1 - beta2),
		Bias1: float32(1 / (1 - math.Pow(beta1, float64(step)))),
		Bias2: float32(1 / (1 - math.Pow(beta2, float64(step)))),
		Eps:   float32(eps), Decay: float32(decay), Rate: float32(rate),
		GradScale: float32(gradScale),
	}
}

// AdamW updates params and both moments in place:
//
//	g = GradScale·grad
//	m = Beta1·m + Rest1·g
//	v = Beta2·v + Rest2·g²
//	p = p - Rate·(Bias1·m/(√(Bias2·v) + Eps) + Decay·p)
func (s *Set) AdamW(params, grads, m, v []float32, c AdamWStep) {
	equal(len(params), len(grads), len(m), len(v))
	s.vec.adamW(params, grads, m, v, c)
}

// equal panics unless all lengths are the same. The assembly relies on it.
func equal(lengths ...int) {
	for _, n := range lengths {
		if n != lengths[0] {
			// A copy, so that the lengths of the good case stay on the stack.
			panic(fmt.Sprintf("kernel: slices of unequal length: %v", slices.Clone(lengths)))
		}
	}
}

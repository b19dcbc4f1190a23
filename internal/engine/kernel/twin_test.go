package kernel_test

import (
	"math"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// twin is every slice function as a plain loop over scalars. It is parametrised by
// what sets may differ in: how a product is added, and the lanes of a reduction.
type twin struct {
	add   func(x, y, z float32) float32 // x·y + z
	lanes int
}

func twinOf(s *kernel.Set) twin {
	if s.Name() == "go" {
		return twin{rounded, 4}
	}
	return twin{fused, 32}
}

func (w twin) axpy(y, x []float32, alpha float32) {
	for i := range y {
		y[i] = w.add(alpha, x[i], y[i])
	}
}

func (w twin) addMul(y, x, z []float32, alpha float32) {
	for i := range y {
		y[i] = w.add(float32(alpha*x[i]), z[i], y[i])
	}
}

func (w twin) exp(x float32) float32 {
	const ln2Hi, ln2Lo, round = 0.693359375, -2.12194440e-4, 3 << 22
	if x > 89 {
		x = 89
	}
	if x < -104 {
		x = -104
	}
	t := w.add(x, 1.44269504088896341, round)
	n := t - round
	r := w.add(-n, ln2Lo, w.add(-n, ln2Hi, x))
	p := float32(1.9875691500e-4)
	for _, c := range []float32{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		p = w.add(p, r, c)
	}
	y := 1 + w.add(p, float32(r*r), r)
	if n != n {
		return n
	}
	half := math.Floor(float64(n) / 2)
	return float32(y*float32(math.Exp2(half))) * float32(math.Exp2(float64(n)-half))
}

func (w twin) sigmoid(x float32) float32 { return 1 / (1 + w.exp(-x)) }

func (w twin) swiGLU(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = float32(g*w.sigmoid(g)) * up[i]
	}
}

func (w twin) swiGLUGrad(dGate, dUp, gate, up, dOut []float32) {
	for i, g := range gate {
		u, d := up[i], dOut[i]
		sigma := w.sigmoid(g)
		silu := float32(g * sigma)
		dUp[i] = d * silu
		dGate[i] = float32(d*u) * w.add(silu, 1-sigma, sigma)
	}
}

func (w twin) adamW(params, grads, m, v []float32, c kernel.AdamWStep) {
	for i, p := range params {
		g := c.GradScale * grads[i]
		m[i] = w.add(c.Rest1, g, float32(c.Beta1*m[i]))
		v[i] = w.add(c.Rest2, float32(g*g), float32(c.Beta2*v[i]))
		root := float32(math.Sqrt(float64(float32(c.Bias2 * v[i]))))
		step := w.add(c.Decay, p, float32(c.Bias1*m[i])/(root+c.Eps))
		params[i] = w.add(-c.Rate, step, p)
	}
}

func (w twin) expSum(dst, x []float32, shift float32) float32 {
	sum := make([]float32, w.lanes)
	for i, v := range x {
		dst[i] = w.exp(v - shift)
		sum[i%w.lanes] += dst[i]
	}
	return fold(sum)
}

func (w twin) dot(x, y []float32) float32 {
	sum := make([]float32, w.lanes)
	for i := range x {
		sum[i%w.lanes] = w.add(x[i], y[i], sum[i%w.lanes])
	}
	return fold(sum)
}

func (w twin) sumSquares(x []float32) float64 {
	sum := make([]float64, w.lanes)
	for i, v := range x {
		sum[i%w.lanes] += float64(float64(v) * float64(v))
	}
	return fold(sum)
}

// fold adds the upper half of the lanes to the lower half until one is left.
func fold[T float32 | float64](sum []T) T {
	for n := len(sum) / 2; n > 0; n /= 2 {
		for i := range n {
			sum[i] += sum[i+n]
		}
	}
	return sum[0]
}

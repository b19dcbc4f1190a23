package kernel

import "math"

// The portable slice functions, and the twins of the assembly: the same steps, with
// every product rounded before it is added.

func portableVector() vector {
	return vector{
		axpy: goAxpy, scale: goScale, add: goAdd,
		scaleMul: goScaleMul, addMul: goAddMul, mulSub: goMulSub,
		swiGLU: goSwiGLU, swiGLUGrad: goSwiGLUGrad,
		adamW: goAdamW, expSum: goExpSum,
		dot: goDot, sumSquares: goSumSquares, max: goMax,
		roundWide: goRoundWide, roundNarrow: goRoundNarrow, maxAbs: goMaxAbs,
	}
}

func goAxpy(y, x []float32, alpha float32) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += float32(alpha * v)
	}
}

func goScale(x []float32, alpha float32) {
	for i := range x {
		x[i] *= alpha
	}
}

func goAdd(y, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += v
	}
}

func goScaleMul(dst, x, z []float32, alpha float32) {
	x, z = x[:len(dst)], z[:len(dst)]
	for i := range dst {
		dst[i] = float32(alpha*x[i]) * z[i]
	}
}

func goAddMul(y, x, z []float32, alpha float32) {
	x, z = x[:len(y)], z[:len(y)]
	for i := range y {
		y[i] += float32(float32(alpha*x[i]) * z[i])
	}
}

func goMulSub(dst, p, x []float32, shift float32) {
	p, x = p[:len(dst)], x[:len(dst)]
	for i := range dst {
		dst[i] = p[i] * (x[i] - shift)
	}
}

func goSwiGLU(dst, gate, up []float32) {
	gate, up = gate[:len(dst)], up[:len(dst)]
	for i := range dst {
		g := gate[i]
		dst[i] = float32(g*goSigmoid(g)) * up[i]
	}
}

func goSwiGLUGrad(dGate, dUp, gate, up, dOut []float32) {
	n := len(dGate)
	dUp, gate, up, dOut = dUp[:n], gate[:n], up[:n], dOut[:n]
	for i := range dGate {
		g, u, d := gate[i], up[i], dOut[i]
		sigma := goSigmoid(g)
		silu := float32(g * sigma)
		slope := sigma + float32(silu*(1-sigma))
		dUp[i] = d * silu
		dGate[i] = float32(d*u) * slope
	}
}

func goSigmoid(x float32) float32 { return 1 / (1 + goExp(-x)) }

func goAdamW(params, grads, m, v []float32, c AdamWStep) {
	n := len(params)
	grads, m, v = grads[:n], m[:n], v[:n]
	for i, p := range params {
		g := c.GradScale * grads[i]
		m[i] = float32(c.Beta1*m[i]) + float32(c.Rest1*g)
		v[i] = float32(c.Beta2*v[i]) + float32(c.Rest2*float32(g*g))
		root := float32(math.Sqrt(float64(c.Bias2 * v[i])))
		step := float32(c.Bias1*m[i])/(root+c.Eps) + float32(c.Decay*p)
		params[i] = p - float32(c.Rate*step)
	}
}

func goExpSum(dst, x []float32, shift float32) float32 {
	var sum [4]float32
	x = x[:len(dst)]
	for i, v := range x {
		e := goExp(v - shift)
		dst[i] = e
		sum[i&3] += e
	}
	return (sum[0] + sum[2]) + (sum[1] + sum[3])
}

func goDot(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3 float32
	for len(x) >= 4 && len(y) >= 4 {
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
		x, y = x[4:], y[4:]
	}
	rest := [3]float32{}
	for i, v := range x {
		rest[i] = float32(v * y[i])
	}
	return ((s0 + rest[0]) + (s2 + rest[2])) + ((s1 + rest[1]) + s3)
}

func goSumSquares(x []float32) float64 {
	var sum [4]float64
	for i, v := range x {
		sum[i&3] += float64(float64(v) * float64(v))
	}
	return (sum[0] + sum[2]) + (sum[1] + sum[3])
}

func goMax(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	return top
}

// The exponential: x = n·ln 2 + r with n whole, exp(r) by a polynomial on
// |r| <= ln 2 / 2, then times 2^n in two factors so that denormals and overflow
// come out of the last multiplication. Coefficients: S. Moshier, Cephes, expf.c.
const (
	expTop    = 89   // exp is +Inf from here
	expBottom = -104 // exp is 0 from here
	expLog2E  = 1.44269504088896341
	expRound  = 3 << 22 // adding it leaves the nearest whole number in the low bits
	expLn2Hi  = 0.693359375
	expLn2Lo  = -2.12194440e-4
	expC5     = 1.9875691500e-4
	expC4     = 1.3981999507e-3
	expC3     = 8.3334519073e-3
	expC2     = 4.1665795894e-2
	expC1     = 1.6666665459e-1
	expC0     = 5.0000001201e-1
)

func goExp(x float32) float32 {
	if x > expTop {
		x = expTop
	}
	if x < expBottom {
		x = expBottom
	}
	t := float32(x*expLog2E) + expRound
	n := t - expRound
	r := x - float32(n*expLn2Hi)
	r -= float32(n * expLn2Lo)
	p := float32(expC5*r) + expC4
	p = float32(p*r) + expC3
	p = float32(p*r) + expC2
	p = float32(p*r) + expC1
	p = float32(p*r) + expC0
	y := 1 + (r + float32(p*float32(r*r)))
	whole := int32(math.Float32bits(t)) - int32(math.Float32bits(expRound))
	half := whole >> 1
	return float32(y * power(half) * power(whole-half))
}

// power is 2^n for -126 <= n <= 127.
func power(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

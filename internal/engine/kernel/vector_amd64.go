//go:build !noasm

package kernel

func avx2Vector() vector {
	return vector{
		axpy: avx2Axpy, scale: avx2Scale, add: avx2Add,
		scaleMul: avx2ScaleMul, addMul: avx2AddMul, mulSub: avx2MulSub,
		swiGLU: avx2SwiGLU, swiGLUGrad: avx2SwiGLUGrad,
		adamW: func(params, grads, m, v []float32, c AdamWStep) {
			x := c.scalars()
			avx2AdamW(params, grads, m, v, &x)
		},
		expSum: avx2ExpSum,
		dot:    avx2Dot, sumSquares: avx2SumSquares, max: avx2Max,
		roundWide: avx2RoundWide, roundNarrow: avx2RoundNarrow, maxAbs: avx2MaxAbs,
	}
}

func avx512Vector() vector {
	return vector{
		axpy: avx512Axpy, scale: avx512Scale, add: avx512Add,
		scaleMul: avx512ScaleMul, addMul: avx512AddMul, mulSub: avx512MulSub,
		swiGLU: avx512SwiGLU, swiGLUGrad: avx512SwiGLUGrad,
		adamW: func(params, grads, m, v []float32, c AdamWStep) {
			x := c.scalars()
			avx512AdamW(params, grads, m, v, &x)
		},
		expSum: avx512ExpSum,
		dot:    avx512Dot, sumSquares: avx512SumSquares, max: avx512Max,
		roundWide: avx2RoundWide, roundNarrow: avx2RoundNarrow, maxAbs: avx2MaxAbs,
	}
}

// scalars are the fields in the order that the assembly reads them.
func (c *AdamWStep) scalars() [10]float32 {
	return [10]float32{
		c.Beta1, c.Rest1, c.Beta2, c.Rest2, c.Bias1, c.Bias2, c.Eps, c.Decay, c.Rate, c.GradScale,
	}
}

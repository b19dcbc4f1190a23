package rng

import "math"

// rational is a quotient of two polynomials, highest power first; the last
// coefficient of the denominator is 1.
type rational struct{ num, den [8]float64 }

func (q *rational) at(x float64) float64 {
	return horner(&q.num, x) / horner(&q.den, x)
}

// horner rounds each product before it is added (no fused multiply-add).
func horner(c *[8]float64, x float64) float64 {
	y := c[0]
	for _, k := range c[1:] {
		y = float64(y*x) + k
	}
	return y
}

// quantile is the inverse of the standard normal distribution for 0 < p < 1,
// with relative error near 1e-15: algorithm PPND16 of M. J. Wichura, "AS 241:
// The percentage points of the normal distribution", Applied Statistics 37
// (1988) 477-484. It uses +, -, ×, ÷, √ and log only, each rounded once.
func quantile(p float64) float64 {
	q := p - 0.5
	if math.Abs(q) <= 0.425 {
		return q * ppnd16Centre().at(0.180625-float64(q*q))
	}
	r := math.Sqrt(-logarithm(min(p, 1-p)))
	var x float64
	if r <= 5 {
		x = ppnd16Shoulder().at(r - 1.6)
	} else {
		x = ppnd16Tail().at(r - 5)
	}
	return math.Copysign(x, q)
}

// ppnd16Centre holds for |p - 1/2| <= 0.425, argument 0.425² - (p - 1/2)².
func ppnd16Centre() *rational {
	return &rational{
		num: [8]float64{
			2.5090809287301226727e3, 3.3430575583588128105e4,
			6.7265770927008700853e4, 4.5921953931549871457e4,
			1.3731693765509461125e4, 1.9715909503065514427e3,
			1.3314166789178437745e2, 3.3871328727963666080e0,
		},
		den: [8]float64{
			5.2264952788528545610e3, 2.8729085735721942674e4,
			3.9307895800092710610e4, 2.1213794301586595867e4,
			5.3941960214247511077e3, 6.8718700749205790830e2,
			4.2313330701600911252e1, 1,
		},
	}
}

// ppnd16Shoulder holds for r = √(-log min(p, 1-p)) <= 5, argument r - 1.6.
func ppnd16Shoulder() *rational {
	return &rational{
		num: [8]float64{
			7.74545014278341407640e-4, 2.27238449892691845833e-2,
			2.41780725177450611770e-1, 1.27045825245236838258e0,
			3.64784832476320460504e0, 5.76949722146069140550e0,
			4.63033784615654529590e0, 1.42343711074968357734e0,
		},
		den: [8]float64{
			1.05075007164441684324e-9, 5.47593808499534494600e-4,
			1.51986665636164571966e-2, 1.48103976427480074590e-1,
			6.89767334985100004550e-1, 1.67638483018380384940e0,
			2.05319162663775882187e0, 1,
		},
	}
}

// ppnd16Tail holds for r > 5, argument r - 5.
func ppnd16Tail() *rational {
	return &rational{
		num: [8]float64{
			2.01033439929228813265e-7, 2.71155556874348757815e-5,
			1.24266094738807843860e-3, 2.65321895265761230930e-2,
			2.96560571828504891230e-1, 1.78482653991729133580e0,
			5.46378491116411436990e0, 6.65790464350110377720e0,
		},
		den: [8]float64{
			2.04426310338993978564e-15, 1.42151175831644588870e-7,
			1.84631831751005468180e-5, 7.86869131145613259100e-4,
			1.48753612908506148525e-2, 1.36929880922735805310e-1,
			5.99832206555887937690e-1, 1,
		},
	}
}

// logarithm is the natural logarithm of a normal x > 0, within 2 ulp. The
// standard library's may use assembly or fused products, so its bits differ
// between architectures; these do not.
func logarithm(x float64) float64 {
	m, e := math.Frexp(x) // 1/2 <= m < 1
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	// log m = 2 artanh s = 2s + 2s³ (1/3 + s²/5 + s⁴/7 + …); |s| < 0.172, so the
	// first term left out is below 1e-20.
	s := (m - 1) / (m + 1)
	s2 := s * s
	series := 0.0
	for k := 23; k >= 3; k -= 2 {
		series = float64(series*s2) + 1/float64(k)
	}
	// e·ln 2 is added in two parts; the high one is exact for |e| < 2^11.
	const ln2High, ln2Low = 0x1.62e42fefa38p-1, 0x1.ef35793c7673p-45
	tail := float64(2*s*s2*series) + float64(float64(e)*ln2Low)
	return float64(float64(e)*ln2High) + (float64(2*s) + tail)
}

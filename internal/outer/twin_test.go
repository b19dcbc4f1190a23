package outer

import (
	"math"
	"math/big"

	"pgregory.net/rapid"
)

// The slow twins do each operation in arbitrary precision and round it once to the
// 24 bits of fp32. Within the exponents that the tests draw they must agree with
// the package to the bit; a fused product would not.

func round24(x *big.Float) float32 {
	f, _ := x.Float32()
	return f
}

func bigOf(x float32) *big.Float { return new(big.Float).SetPrec(200).SetFloat64(float64(x)) }

func slowMul(a, b float32) float32 { return round24(bigOf(a).Mul(bigOf(a), bigOf(b))) }
func slowAdd(a, b float32) float32 { return round24(bigOf(a).Add(bigOf(a), bigOf(b))) }
func slowSub(a, b float32) float32 { return round24(bigOf(a).Sub(bigOf(a), bigOf(b))) }

// slowApply is Step.Apply, written after the formula.
func slowApply(s Step, theta, momentum, delta []float32, share float64) {
	eta, mu := float32(s.Rate), float32(s.Momentum)
	decay := float32(power(s.Momentum, share))
	for i := range theta {
		d := slowMul(float32(share), delta[i])
		momentum[i] = slowAdd(slowMul(decay, momentum[i]), d)
		theta[i] = slowSub(theta[i], slowMul(eta, slowAdd(d, slowMul(mu, momentum[i]))))
	}
}

// slowMean is Mean by the definition, one element at a time in fp64.
func slowMean(sizes []int, parts []Part) []float64 {
	var out []float64
	element := 0
	for tensor, size := range sizes {
		weight := func(p Part) float64 { return float64(p.Tokens[tensor]) }
		var total float64
		for _, p := range parts {
			total += weight(p)
		}
		if total == 0 {
			weight = func(p Part) float64 {
				most := 0.0
				for _, t := range p.Tokens {
					most = math.Max(most, float64(t))
				}
				return most
			}
			for _, p := range parts {
				total += weight(p)
			}
		}
		if len(parts) == 1 { // an only part stands as it is
			weight, total = func(Part) float64 { return 1 }, 1
		}
		for range size {
			var sum float64
			for _, p := range parts {
				sum += weight(p) * float64(p.Delta[element])
			}
			if total > 0 {
				sum /= total
			}
			out = append(out, sum)
			element++
		}
	}
	return out
}

func drawFloats(t *rapid.T, label string, n int) []float32 {
	return rapid.SliceOfN(rapid.Float32Range(-100, 100), n, n).Draw(t, label)
}

func sameBits(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

package outer

import "math"

// Step is the outer optimizer of one fragment: a Nesterov step on the merged
// pseudo-gradient. With Rate 1 and Momentum 0 it puts the weights where the
// learners are.
type Step struct {
	Rate     float64 // η
	Momentum float64 // μ, 0 <= μ < 1
}

// StateStep is the outer step of tensors that are state, not trained (a router's bias and
// statistics): with share 1 they become the learners' mean. There is no gradient that a
// rate, a momentum or a share could make more or less of.
func StateStep() Step { return Step{Rate: 1, Momentum: 0} }

// Apply makes the share σ of a step, in place:
//
//	d = σ Δ;  b = μ^σ b + d;  Θ = Θ - η (d + μ b)
//
// share is 0 < σ <= 1 as Share gives it. delta is left as it is.
func (s Step) Apply(theta, momentum, delta []float32, share float64) {
	mustMatch(len(theta), len(momentum), len(delta))
	momentum, delta = momentum[:len(theta)], delta[:len(theta)]
	eta, mu := float32(s.Rate), float32(s.Momentum)
	sigma, decay := float32(share), float32(power(s.Momentum, share))
	for i := range theta {
		d := float32(sigma * delta[i])
		b := float32(decay*momentum[i]) + d
		momentum[i] = b
		theta[i] -= float32(eta * (d + float32(mu*b)))
	}
}

// power is base^exponent for 0 <= base <= 1 and 0 <= exponent <= 1, with the same
// bits on every architecture, which the standard library does not promise: base to
// the power of each binary digit of the exponent is a repeated square root, and
// square roots and products are rounded exactly.
func power(base, exponent float64) float64 {
	if exponent >= 1 {
		return base
	}
	result, root := 1.0, base
	for exponent > 0 {
		root = math.Sqrt(root)
		exponent *= 2
		if exponent >= 1 {
			result *= root
			exponent--
		}
	}
	return result
}

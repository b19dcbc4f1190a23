package scalar

import "math"

// AdamW is one step on one weight.
type AdamW struct{ Beta1, Beta2, Eps, Decay, Rate float64 }

// Step gives the new weight and moments; step counts from 1.
func (a AdamW) Step(weight, grad, m, v float64, step int) (newWeight, newM, newV float64) {
	m = a.Beta1*m + (1-a.Beta1)*grad
	v = a.Beta2*v + (1-a.Beta2)*grad*grad
	mHat := m / (1 - math.Pow(a.Beta1, float64(step)))
	vHat := v / (1 - math.Pow(a.Beta2, float64(step)))
	return weight - a.Rate*(mHat/(math.Sqrt(vHat)+a.Eps)+a.Decay*weight), m, v
}

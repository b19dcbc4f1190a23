package plan

import "math"

// Quantile is the value below which a share of numbers lies, between neighbours in
// proportion; NaN of none. They are in order.
func Quantile(ordered []float64, share float64) float64 {
	if len(ordered) == 0 {
		return math.NaN()
	}
	at := share * float64(len(ordered)-1)
	i := int(at)
	if i+1 >= len(ordered) {
		return ordered[len(ordered)-1]
	}
	return ordered[i] + (at-float64(i))*(ordered[i+1]-ordered[i])
}

package oracle

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// The bounds. Everything is relative; tensors are measured in the L2 norm, traces
// at each step up to the 50th, and to the end.
const (
	twinGradient   = 1e-9
	twinShortTrace = 1e-9
	twinFullTrace  = 1e-4
	fp32Loss       = 1e-6
	fp32Gradient   = 5e-6
	fp32ShortTrace = 1e-5

	shortTrace = 50
)

// relative is the L2 norm of got - want over that of want.
func relative[F float32 | float64](got []F, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var difference, norm float64
	for i := range want {
		d := float64(got[i]) - want[i]
		difference += d * d
		norm += want[i] * want[i]
	}
	if difference == 0 {
		return 0
	}
	return math.Sqrt(difference / norm)
}

// deviations are relative errors by what they are of.
type deviations map[string]float64

// worst is the largest, NaN above all.
func (d deviations) worst() (name string, deviation float64) {
	for _, n := range slices.Sorted(maps.Keys(d)) {
		if worse(d[n], deviation) {
			name, deviation = n, d[n]
		}
	}
	return name, deviation
}

// over lists what exceeds a bound, NaN included.
func (d deviations) over(bound float64) (problems []string) {
	for _, n := range slices.Sorted(maps.Keys(d)) {
		if !(d[n] <= bound) {
			problems = append(problems, fmt.Sprintf("%s is off by %.2g; at most %.0g is right", n, d[n], bound))
		}
	}
	return problems
}

// raise keeps the largest deviation of each name.
func (d deviations) raise(name string, deviation float64) {
	if old, ok := d[name]; !ok || worse(deviation, old) {
		d[name] = deviation
	}
}

// worse orders deviations: NaN is above all, and stays.
func worse(a, b float64) bool { return a > b || math.IsNaN(a) && !math.IsNaN(b) }

// differing is the share of tokens whose sets of experts differ, over all layers.
func differing(got, want [][]int32, k int) float64 {
	tokens, others := 0, 0
	for l := range want {
		for i := 0; i < len(want[l]); i += k {
			tokens++
			if !sameSet(got[l][i:i+k], want[l][i:i+k]) {
				others++
			}
		}
	}
	return float64(others) / float64(max(1, tokens))
}

func sameSet(a, b []int32) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

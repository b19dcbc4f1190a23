package scalar_test

import (
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/rng"
)

// normals gives n normal numbers; the index tells draws of one test apart.
func normals(index uint64, n int) []float64 {
	stream, x := rng.New(7, rng.Test, index), make([]float64, n)
	for i := range x {
		x[i] = stream.Normal()
	}
	return x
}

// split cuts x into pieces of the given lengths.
func split(x []float64, lengths ...int) [][]float64 {
	var parts [][]float64
	for _, n := range lengths {
		parts = append(parts, x[:n:n])
		x = x[n:]
	}
	return parts
}

// rows cuts x into rows of d elements.
func rows(x []float64, d int) [][]float64 {
	var m [][]float64
	for ; len(x) > 0; x = x[d:] {
		m = append(m, x[:d:d])
	}
	return m
}

func join(parts ...[]float64) []float64 {
	var x []float64
	for _, p := range parts {
		x = append(x, p...)
	}
	return x
}

// checkGradient compares a gradient with central differences of f, which must
// read x anew at each call. It is measured against the largest element of the
// gradient. Elements that a skip names are left out.
func checkGradient(t *testing.T, x, gradient []float64, f func() float64, bound float64, skip ...func(i int) bool) {
	t.Helper()
	const step = 1e-5
	scale := 0.0
	for _, g := range gradient {
		scale = max(scale, math.Abs(g))
	}
	if scale == 0 {
		t.Fatal("the gradient is zero everywhere")
	}
	for i := range x {
		if slices.ContainsFunc(skip, func(skip func(int) bool) bool { return skip(i) }) {
			continue
		}
		old := x[i]
		x[i] = old + step
		high := f()
		x[i] = old - step
		low := f()
		x[i] = old
		if want := (high - low) / (2 * step); !(math.Abs(gradient[i]-want) <= bound*scale) {
			t.Fatalf("gradient of element %d is %v, finite difference %v", i, gradient[i], want)
		}
	}
}

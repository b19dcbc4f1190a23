package outer

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestFinite(t *testing.T) {
	infinity := float32(math.Inf(1))
	for _, tt := range []struct {
		x    []float32
		want bool
	}{
		{nil, true},
		{[]float32{0, -1, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32}, true},
		{[]float32{1, infinity}, false},
		{[]float32{-infinity, 1}, false},
		{[]float32{1, float32(math.NaN()), 1}, false},
	} {
		if got := Finite(tt.x); got != tt.want {
			t.Errorf("Finite(%v) = %v", tt.x, got)
		}
	}
}

func TestFiniteAgreesWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := []float32{math.Float32frombits(rapid.Uint32().Draw(t, "bits"))}
		f := float64(x[0])
		if got, want := Finite(x), !math.IsNaN(f) && !math.IsInf(f, 0); got != want {
			t.Fatalf("Finite(%v) = %v", x, got)
		}
	})
}

func TestNorms(t *testing.T) {
	got := Norms([]float32{3, 4, -2, 1e30}, []int{2, 1, 0, 1})
	want := []float64{5, 2, 0, float64(float32(1e30))}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-15*want[i] {
			t.Errorf("norm of tensor %d = %v, want %v", i, got[i], want[i])
		}
	}
}

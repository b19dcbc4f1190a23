package scalar_test

import (
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/scalar"
)

const bound = 1e-8 // of a float64 gradient against central differences

// dotAll sums the products of two lists of vectors: a linear test function.
func dotAll(a, b [][]float64) float64 {
	sum := 0.0
	for i := range a {
		sum += scalar.Dot(a[i], b[i])
	}
	return sum
}

func TestLinearBackward(t *testing.T) {
	x := normals(1, 3*5+5)
	p, dY := split(x, 15, 5), normals(2, 3)
	dW := make([]float64, 15)
	dX := scalar.LinearBackward(dW, p[0], p[1], dY)
	checkGradient(t, x, join(dW, dX), func() float64 { return scalar.Dot(dY, scalar.Linear(p[0], p[1], 3)) }, bound)
}

func TestRMSNormBackward(t *testing.T) {
	x := normals(3, 14)
	p, dY := split(x, 7, 7), normals(4, 7)
	dGain := make([]float64, 7)
	dX := scalar.RMSNormBackward(dGain, p[0], p[1], 0.01, dY)
	checkGradient(t, x, join(dGain, dX), func() float64 { return scalar.Dot(dY, scalar.RMSNorm(p[0], p[1], 0.01)) }, bound)
}

func TestRotate(t *testing.T) {
	x, dY := normals(5, 8), normals(6, 8)
	for _, turned := range []int{8, 6, 2} {
		checkGradient(t, x, scalar.RotateBackward(dY, turned, 3, 100), func() float64 { return scalar.Dot(dY, scalar.Rotate(x, turned, 3, 100)) }, bound)
		if got := scalar.Rotate(x, turned, 3, 100); !slices.Equal(got[turned:], x[turned:]) {
			t.Errorf("elements from %d on went from %v to %v", turned, x[turned:], got[turned:])
		}
	}

	// The product of a query and a key depends on their distance alone.
	near := scalar.Dot(scalar.Rotate(x, 6, 2, 100), scalar.Rotate(dY, 6, 5, 100))
	far := scalar.Dot(scalar.Rotate(x, 6, 12, 100), scalar.Rotate(dY, 6, 15, 100))
	if math.Abs(near-far) > 1e-12 {
		t.Errorf("products at distance 3 are %v and %v", near, far)
	}
}

func TestSoftmaxBackward(t *testing.T) {
	x, dP := normals(7, 6), normals(8, 6)
	p, logSum := scalar.Softmax(x)
	checkGradient(t, x, scalar.SoftmaxBackward(p, dP), func() float64 { p, _ := scalar.Softmax(x); return scalar.Dot(dP, p) }, bound)
	checkGradient(t, x, p, func() float64 { _, l := scalar.Softmax(x); return l }, bound)
	shifted := append([]float64(nil), x...)
	for i := range shifted {
		shifted[i] += 5000
	}
	if _, l := scalar.Softmax(shifted); math.Abs(l-5000-logSum) > 1e-9 {
		t.Errorf("log sum of shifted values is %v, want %v", l, logSum+5000)
	}
}

func TestSwiGLUBackward(t *testing.T) {
	x := normals(9, 12)
	p, dY := split(x, 6, 6), normals(10, 6)
	dGate, dUp := scalar.SwiGLUBackward(p[0], p[1], dY)
	checkGradient(t, x, join(dGate, dUp), func() float64 { return scalar.Dot(dY, scalar.SwiGLU(p[0], p[1])) }, bound)
}

func TestCrossEntropyBackward(t *testing.T) {
	x := normals(11, 6)
	_, d := scalar.CrossEntropy(x, 2)
	checkGradient(t, x, d, func() float64 { loss, _ := scalar.CrossEntropy(x, 2); return loss }, bound)
}

func TestAttendBackward(t *testing.T) {
	const tokens, d = 4, 3
	x := normals(12, 3*tokens*d)
	p := split(x, tokens*d, tokens*d, tokens*d)
	q, k, v, dO := rows(p[0], d), rows(p[1], d), rows(p[2], d), rows(normals(13, tokens*d), d)
	dK, dV := rows(make([]float64, tokens*d), d), rows(make([]float64, tokens*d), d)
	document := []int{0, 0, 1, 1}
	dQ := scalar.AttendBackward(dK, dV, q, k, v, dO, document)
	checkGradient(t, x, join(join(dQ...), join(dK...), join(dV...)), func() float64 {
		return dotAll(dO, scalar.Attend(q, k, v, document))
	}, bound)
}

func TestAttendIsCausal(t *testing.T) {
	q, k, v := rows(normals(14, 12), 3), rows(normals(15, 12), 3), rows(normals(16, 12), 3)
	document := []int{0, 0, 0, 0}
	before := scalar.Attend(q, k, v, document)
	k[3][0], v[3][1] = 100, 100
	after := scalar.Attend(q, k, v, document)
	for s := range 3 {
		for i := range 3 {
			if before[s][i] != after[s][i] {
				t.Fatalf("token %d sees token 3", s)
			}
		}
	}
}

func TestNormHead(t *testing.T) {
	head := []float64{3, 0, 4, 0}
	norms := scalar.ColumnNorms(head, 2)
	if norms[0] != 5+1e-7 || norms[1] != 1e-7 {
		t.Errorf("column norms are %v", norms)
	}
	if got := scalar.NormHead(head, norms); math.Abs(got[0]-0.6) > 1e-7 || math.Abs(got[2]-0.8) > 1e-7 || got[1] != 0 {
		t.Errorf("normed head is %v", got)
	}
}

// TestFloat32FollowsFloat64 runs the twin in both types.
func TestFloat32FollowsFloat64(t *testing.T) {
	x64, gain64 := normals(17, 9), normals(18, 9)
	var x32, gain32 []float32
	for i := range x64 {
		x32, gain32 = append(x32, float32(x64[i])), append(gain32, float32(gain64[i]))
	}
	want := scalar.RMSNorm(gain64, x64, 1e-6)
	for i, got := range scalar.RMSNorm(gain32, x32, 1e-6) {
		if math.Abs(float64(got)-want[i]) > 1e-5 {
			t.Errorf("element %d is %v in float32 and %v in float64", i, got, want[i])
		}
	}
}

package outer

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// B1: updates of three islands for one weight are 0.2, NaN, 0.4. Elsewhere the mean
// spread the NaN to all. Here Finite tells the second one, the syncer refuses it,
// and the mean of the others is 0.3.
func TestMeanWithoutTheRefusedPart(t *testing.T) {
	parts := []Part{
		{Delta: []float32{0.2}, Tokens: []int64{100}},
		{Delta: []float32{float32(math.NaN())}, Tokens: []int64{100}},
		{Delta: []float32{0.4}, Tokens: []int64{100}},
	}
	accepted := slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return !Finite(p.Delta) })
	if len(accepted) != 2 {
		t.Fatalf("%d parts accepted, want 2", len(accepted))
	}
	dst := make([]float32, 1)
	Mean(dst, []int{1}, accepted)
	if dst[0] != 0.3 {
		t.Errorf("mean = %v, want 0.3", dst[0])
	}
}

func TestMeanWeighsByTokensOfEachTensor(t *testing.T) {
	sizes := []int{1, 1, 1, 1}
	parts := []Part{
		{Delta: []float32{1, 2, 3, 10}, Tokens: []int64{300, 0, 50, 0}},
		{Delta: []float32{5, 4, 7, 20}, Tokens: []int64{100, 80, 50, 0}},
	}
	got := make([]float32, 4)
	Mean(got, sizes, parts)
	// Tensor 0 is 3:1; tensor 1 reached only the second; tensor 2 is 1:1; tensor 3
	// reached nobody, so the parts weigh 300:100.
	want := []float32{2, 4, 5, 12.5}
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-5 {
			t.Errorf("tensor %d = %v, want %v", i, got[i], want[i])
		}
	}
}

func TestMeanAgreesWithTheSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 5).Draw(t, "sizes")
		total := 0
		for _, s := range sizes {
			total += s
		}
		parts := make([]Part, rapid.IntRange(0, 4).Draw(t, "parts"))
		for i := range parts {
			parts[i].Delta = drawFloats(t, "delta", total)
			parts[i].Tokens = rapid.SliceOfN(rapid.Int64Range(0, 3), len(sizes), len(sizes)).Draw(t, "tokens")
		}
		got := drawFloats(t, "old content", total)
		Mean(got, sizes, parts)
		for i, want := range slowMean(sizes, parts) {
			if math.Abs(float64(got[i])-want) > 1e-4 {
				t.Fatalf("element %d = %v, want %v", i, got[i], want)
			}
		}
	})
}

// D5 leans on this: the mean of one is that one, negative zeros included.
func TestMeanOfOnePartIsThatPart(t *testing.T) {
	negativeZero := float32(math.Copysign(0, -1))
	delta := []float32{0.1, negativeZero, -3e-45, 3}
	for _, tokens := range [][]int64{{7, 3}, {7, 0}, {0, 0}} {
		dst := []float32{9, 9, 9, 9}
		Mean(dst, []int{2, 2}, []Part{{Delta: delta, Tokens: tokens}})
		if !sameBits(dst, delta) {
			t.Errorf("tokens %v: mean = %v, want %v", tokens, dst, delta)
		}
	}
}

func TestMeanOfNothingTrainedIsZero(t *testing.T) {
	untrained := Part{Delta: []float32{1}, Tokens: []int64{0}}
	for _, parts := range [][]Part{nil, {untrained, untrained}} {
		dst := []float32{9}
		Mean(dst, []int{1}, parts)
		if dst[0] != 0 {
			t.Errorf("%d parts: mean = %v, want 0", len(parts), dst[0])
		}
	}
}

func TestMismatchedLengthsPanic(t *testing.T) {
	x := make([]float32, 2)
	for name, call := range map[string]func(){
		"mean, parts":     func() { Mean(x, []int{2}, []Part{{Delta: x[:1], Tokens: []int64{1}}}) },
		"mean, tokens":    func() { Mean(x, []int{2}, []Part{{Delta: x, Tokens: nil}}) },
		"mean, sizes":     func() { Mean(x, []int{1}, nil) },
		"apply":           func() { Step{}.Apply(x, x[:1], x, 1) },
		"rebase":          func() { Rebase(x, x, x[:1]) },
		"pseudo-gradient": func() { PseudoGradient(x, x, x[:1]) },
		"norms":           func() { Norms(x, []int{1}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}

package rng

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The slow twin lists the whole range and looks for a value met twice.
func TestPermuteIsABijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 700).Draw(t, "n")
		seed, epoch := rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "epoch")
		seen := make([]bool, n)
		for i := range n {
			v := Permute(seed, Test, epoch, n, i)
			if v >= n || seen[v] {
				t.Fatalf("place %d of %d = %d: outside the range or met twice", i, n, v)
			}
			seen[v] = true
		}
	})
}

func TestPermuteHandlesHugeRanges(t *testing.T) {
	for _, n := range []uint64{1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, math.MaxUint64} {
		seen := map[uint64]bool{}
		for i := range uint64(64) {
			v := Permute(9, Test, 1, n, n-1-i)
			if v >= n || seen[v] {
				t.Errorf("n %d: place %d = %d", n, n-1-i, v)
			}
			seen[v] = true
		}
	}
}

// The order is durable: resuming a run depends on it.
func TestPermuteGolden(t *testing.T) {
	var got [10]uint64
	for i := range got {
		got[i] = Permute(1, SampleOrder, 0, 10, uint64(i))
	}
	want := [10]uint64{8, 4, 0, 1, 3, 7, 6, 5, 2, 9}
	if got != want {
		t.Errorf("order of 10 = %v, want %v", got, want)
	}
}

func TestPermuteRefusesAPlaceOutsideTheRange(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Permute(1, Test, 0, 5, 5)
}

// Over many epochs every value stands at every place about equally often.
func TestPermuteSpreadsEvenly(t *testing.T) {
	for _, n := range []uint64{2, 3, 5, 8, 13} {
		const epochs = 4000
		counts := make([]float64, n*n)
		for epoch := range uint64(epochs) {
			for i := range n {
				counts[i*n+Permute(5, Test, epoch, n, i)]++
			}
		}
		var chi2 float64
		want := float64(epochs) / float64(n)
		for _, c := range counts {
			chi2 += (c - want) * (c - want) / want
		}
		// (n-1)² degrees of freedom: mean and five deviations above it.
		free := float64((n - 1) * (n - 1))
		if chi2 > free+5*math.Sqrt(2*free) {
			t.Errorf("n %d: chi² = %v with %v degrees of freedom", n, chi2, free)
		}
	}
}

func BenchmarkPermute(b *testing.B) {
	for b.Loop() {
		Permute(1, Test, 0, 600_000, 12345)
	}
}

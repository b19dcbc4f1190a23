package anatomy

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// F13: shares by speed, with and without a cap. F17: each layer once, sizes that differ
// by one at most, and stages by speed.
func TestF13AndF17SharesBySpeed(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		speeds []float64
		caps   []int
		want   []int
		units  float64 // that the slowest takes
	}{
		{"F13", 64, []float64{3, 1}, nil, []int{48, 16}, 16},
		{"F13 with a cap", 64, []float64{3, 1}, []int{40, 0}, []int{40, 24}, 24},
		{"F17", 12, []float64{1, 1, 1, 1, 1}, nil, []int{2, 2, 2, 3, 3}, 3},
		{"F17 by speed", 12, []float64{3, 1}, nil, []int{9, 3}, 3},
	} {
		got, ok := Deal(c.n, c.speeds, c.caps)
		if !ok || !slices.Equal(got, c.want) || units(got, c.speeds) != c.units {
			t.Errorf("%s: %v %v", c.name, got, ok)
		}
	}
	if got, ok := Deal(5, []float64{1, 2}, []int{1, 3}); ok || !slices.Equal(got, []int{1, 3}) {
		t.Errorf("caps too small: %v %v", got, ok)
	}
}

func units(shares []int, speeds []float64) float64 {
	most := 0.0
	for i, n := range shares {
		most = max(most, float64(n)/speeds[i])
	}
	return most
}

// Deal's slow twin tries all shares of three parties.
func TestDealIsDoneFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "n")
		speeds := rapid.SliceOfN(rapid.Float64Range(0.1, 9), 3, 3).Draw(t, "speeds")
		caps := rapid.SliceOfN(rapid.IntRange(0, 8), 3, 3).Draw(t, "caps")
		fits := func(i, k int) bool { return caps[i] == 0 || k <= caps[i] }
		best, found := 1e9, false
		for a := range n + 1 {
			for b := range n - a + 1 {
				if c := n - a - b; fits(0, a) && fits(1, b) && fits(2, c) {
					best, found = min(best, units([]int{a, b, c}, speeds)), true
				}
			}
		}
		got, ok := Deal(n, speeds, caps)
		if ok != found || ok && units(got, speeds) != best {
			t.Fatalf("%v %v, want %v in %v", got, ok, found, best)
		}
		if ok && got[0]+got[1]+got[2] != n {
			t.Fatalf("%v of %d", got, n)
		}
	})
}

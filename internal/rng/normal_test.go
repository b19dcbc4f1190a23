package rng

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// The slow twin: bisection on the distribution function of the standard library.
func bisectQuantile(p float64) float64 {
	low, high := -9.0, 9.0
	for range 200 {
		middle := low + (high-low)/2
		if math.Erfc(-middle/math.Sqrt2)/2 < p {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

func TestQuantileAgreesWithBisection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Exponents are drawn evenly, so that the tails are met as often as the middle.
		p := math.Ldexp(rapid.Float64Range(0.5, 1).Draw(t, "mantissa"), -rapid.IntRange(0, 51).Draw(t, "exponent"))
		if p == 1 {
			p = 0.5
		}
		got, want := quantile(p), bisectQuantile(p)
		// Near p = 1 the distribution function itself resolves only an ulp of p.
		slack := 1e-14 + 4e-16/(math.Exp(-want*want/2)/math.Sqrt(2*math.Pi))
		if p < 0.5 {
			slack = 1e-13
		}
		if math.Abs(got-want) > slack*math.Max(1, math.Abs(want)) {
			t.Fatalf("quantile(%v) = %v, bisection %v", p, got, want)
		}
	})
}

func TestQuantileIsOddAndRises(t *testing.T) {
	if got := quantile(0.5); got != 0 {
		t.Errorf("quantile(1/2) = %v", got)
	}
	last := math.Inf(-1)
	for k := 1; k < 4096; k++ {
		p := float64(k) / 4096
		x := quantile(p)
		if x <= last {
			t.Errorf("quantile(%v) = %v does not exceed its predecessor %v", p, x, last)
		}
		if mirrored := quantile(1 - p); mirrored != -x {
			t.Errorf("quantile(%v) = %v, quantile(%v) = %v", p, x, 1-p, mirrored)
		}
		last = x
	}
}

func TestQuantileAtTheEndsOfItsRange(t *testing.T) {
	for _, p := range []float64{0x1p-53, 1 - 0x1p-53} {
		if x := quantile(p); math.IsInf(x, 0) || math.Abs(x) < 8.2 || math.Abs(x) > 8.3 {
			t.Errorf("quantile(%v) = %v", p, x)
		}
	}
}

func TestLogarithmAgreesWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(0x1p-1000, 1).Draw(t, "x")
		got, want := logarithm(x), math.Log(x)
		if diff := math.Abs(got - want); diff > 4e-16*math.Abs(want) {
			t.Fatalf("logarithm(%v) = %v, want %v", x, got, want)
		}
	})
}

// The slow twin of horner: exact arithmetic on rationals. No rounding there, so
// agreement is to a few ulp.
func TestHornerAgreesWithExactArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(0, 3.4).Draw(t, "x")
		for _, q := range []*rational{ppnd16Centre(), ppnd16Shoulder(), ppnd16Tail()} {
			for _, c := range [][8]float64{q.num, q.den} {
				exact := new(big.Rat)
				for _, k := range c {
					exact.Mul(exact, new(big.Rat).SetFloat64(x))
					exact.Add(exact, new(big.Rat).SetFloat64(k))
				}
				want, _ := exact.Float64()
				if got := horner(&c, x); math.Abs(got-want) > 2e-15*math.Abs(want) {
					t.Fatalf("horner(%v, %v) = %v, exact %v", c, x, got, want)
				}
			}
		}
	})
}

func TestNormalHasTheMomentsOfANormal(t *testing.T) {
	s := New(7, Test, 0)
	const n = 1 << 18
	var sum [5]float64
	for range n {
		x := s.Normal()
		for k, power := 1, x; k < len(sum); k, power = k+1, power*x {
			sum[k] += power
		}
	}
	// Bounds are five deviations of each sample moment.
	for _, m := range []struct {
		power             int
		want, sampleDevSq float64
	}{{1, 0, 1}, {2, 1, 2}, {3, 0, 15}, {4, 3, 96}} {
		got := sum[m.power] / n
		if math.Abs(got-m.want) > 5*math.Sqrt(m.sampleDevSq/n) {
			t.Errorf("moment %d = %v, want %v", m.power, got, m.want)
		}
	}
}

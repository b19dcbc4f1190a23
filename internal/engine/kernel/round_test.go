package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
)

// sameFloat compares bits, all NaN being one.
func sameFloat(a, b float32) bool {
	return a != a && b != b || math.Float32bits(a) == math.Float32bits(b)
}

// TestRoundAgreesWithDefinition: all upper halves of a float32 with lower halves about the
// ties of every format, in every set, against the definition in package numeric.
func TestRoundAgreesWithDefinition(t *testing.T) {
	lows := []uint32{0, 1, 0x7ff, 0x800, 0x801, 0x1000, 0x1001, 0x1800, 0x7fff, 0x8000, 0x8001, 0xffff}
	x := make([]float32, 0, len(lows)<<16)
	for upper := range uint32(1 << 16) {
		for _, low := range lows {
			x = append(x, math.Float32frombits(upper<<16|low))
		}
	}
	got := make([]float32, len(x))
	for _, f := range numeric.Formats() {
		r := kernel.NewRounding(f)
		for _, s := range sets(t) {
			s.Round(got, x, &r)
			for i, v := range x {
				if want := f.Round(v); !sameFloat(got[i], want) {
					t.Fatalf("%s, %s: %v (%#x) rounds to %v, want %v", s.Name(), f, v, math.Float32bits(v), got[i], want)
				}
			}
		}
	}
}

// TestRoundScaled: any length, any scale, in place.
func TestRoundScaled(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, f := range []numeric.Format{numeric.E4M3(), numeric.E5M2(), numeric.E4M3FNUZ(), numeric.FP16()} {
		for n := range 75 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(math.Ldexp(random.NormFloat64(), random.IntN(60)-30))
			}
			amax := sets(t)[0].MaxAbs(x)
			scale, inverse := f.Scale(amax / float32(int(1)<<random.IntN(3))) // some saturate
			r := kernel.NewRounding(f).Scaled(scale, inverse)
			for _, s := range sets(t) {
				got := append([]float32(nil), x...)
				s.Round(got, got, &r)
				for i, v := range x {
					if want := f.RoundScaled(v, scale, inverse); !sameFloat(got[i], want) {
						t.Fatalf("%s, %s: %v at scale %v rounds to %v, want %v", s.Name(), f, v, scale, got[i], want)
					}
				}
			}
		}
	}
}

func TestMaxAbs(t *testing.T) {
	for _, s := range sets(t) {
		name := s.Name()
		for n := range 100 {
			x := make([]float32, n)
			if got := s.MaxAbs(x); got != 0 {
				t.Fatalf("%s: %v of %d zeros", name, got, n)
			}
			for i := range x {
				x[i] = -3
				if got := s.MaxAbs(x); got != 3 {
					t.Fatalf("%s: element %d of %d: %v", name, i, n, got)
				}
				x[i] = float32(math.NaN())
				if got := s.MaxAbs(x); got == got {
					t.Fatalf("%s: NaN at %d of %d: %v", name, i, n, got)
				}
				x[i] = 0
			}
		}
	}
}

func BenchmarkRound(b *testing.B) {
	x := make([]float32, 1<<14)
	for i := range x {
		x[i] = float32(i)
	}
	dst := make([]float32, len(x))
	for _, s := range sets(b) {
		for _, f := range []numeric.Format{numeric.BF16(), numeric.FP16()} {
			b.Run(s.Name()+"/"+f.Name, func(b *testing.B) {
				r := kernel.NewRounding(f)
				b.SetBytes(int64(4 * len(x)))
				for b.Loop() {
					s.Round(dst, x, &r)
				}
			})
		}
	}
}

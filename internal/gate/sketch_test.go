package gate

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/rng"
)

// slowProject is the definition, one sign at a time.
func slowProject(seed uint64, tensor int, from int64, x []float32) Sketch {
	var s Sketch
	for i, v := range x {
		stream := rng.New(seed, rng.GateSigns, uint64(tensor))
		at := from + int64(i)
		stream.Skip(uint64(at / 4))
		signs := stream.Uint32() >> (8 * (at % 4))
		s.Squares += float64(v) * float64(v)
		for j := range s.Along {
			if signs>>j&1 == 1 {
				s.Along[j] -= float64(v)
			} else {
				s.Along[j] += float64(v)
			}
		}
	}
	return s
}

func near(t interface{ Fatalf(string, ...any) }, got, want Sketch) {
	slack := 1e-12 * (1 + want.Squares)
	for j := range want.Along {
		if math.Abs(got.Along[j]-want.Along[j]) > slack {
			t.Fatalf("projection %d is %v, want %v", j, got.Along[j], want.Along[j])
		}
	}
	if math.Abs(got.Squares-want.Squares) > slack {
		t.Fatalf("squares are %v, want %v", got.Squares, want.Squares)
	}
}

func TestProjectAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32Range(-3, 3), 0, 70).Draw(t, "x")
		seed, tensor := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1000).Draw(t, "tensor")
		from := rapid.Int64Range(0, 1<<40).Draw(t, "from")
		near(t, Project(seed, tensor, from, x), slowProject(seed, tensor, from, x))
	})
}

// Pieces of a tensor, cut anywhere, add up to the whole.
func TestSketchesOfPartsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32Range(-3, 3), 1, 70).Draw(t, "x")
		var sum Sketch
		for from := 0; from < len(x); {
			to := rapid.IntRange(from+1, len(x)).Draw(t, "to")
			sum = sum.Plus(Project(7, 3, int64(from), x[from:to]))
			from = to
		}
		near(t, sum, Project(7, 3, 0, x))
	})
}

// The signs are part of the format: another implementation must find the same ones.
func TestSignsAreThoseOfTheFormat(t *testing.T) {
	one := []float32{1}
	var got []float64
	for i := range int64(5) {
		s := Project(42, 1, i, one)
		got = append(got, s.Along[0], s.Along[7])
	}
	want := []float64{-1, -1, 1, -1, -1, 1, -1, -1, -1, 1}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("signs %v, want %v", got, want)
		}
	}
}

func BenchmarkProject(b *testing.B) {
	x := make([]float32, 1<<22)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	b.SetBytes(4 * int64(len(x)))
	for b.Loop() {
		Project(1, 0, 0, x)
	}
}

package wire

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What is viewed and what is copied are the same, at any address.
func TestViewsAgainstCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Uint32(), 0, 41).Draw(t, "bits")
		src := make([]float32, len(bits))
		for i, b := range bits {
			src[i] = math.Float32frombits(b)
		}
		want := AppendF32(nil, src)
		if got := Bytes(src); !bytes.Equal(got, want) {
			t.Fatalf("bytes %x, want %x", got, want)
		}
		shift := rapid.IntRange(0, 7).Draw(t, "shift")
		back, err := Floats(append(make([]byte, shift), want...)[shift:], len(src))
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendF32(nil, back); !bytes.Equal(got, want) {
			t.Fatalf("floats %x, want %x", got, want)
		}
	})
}

func TestFloatsRefusesOtherLengths(t *testing.T) {
	for _, n := range []int{0, 7, 9, 12} {
		if _, err := Floats(make([]byte, n), 2); err == nil {
			t.Errorf("%d bytes for 2 elements were taken", n)
		}
	}
}

// Neither direction costs memory where numbers lie as the wire has them.
func TestViewsAllocateNothing(t *testing.T) {
	if !asOnWire() {
		t.Skip("this machine stores the highest byte first")
	}
	x := slices.Repeat([]float32{1, 2}, 512)
	if n := testing.AllocsPerRun(10, func() { Floats(Bytes(x), len(x)) }); n != 0 { //nolint:errcheck // lengths agree
		t.Errorf("%v allocations", n)
	}
}

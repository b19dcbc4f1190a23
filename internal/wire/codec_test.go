package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestAppendF32Golden(t *testing.T) {
	nan := math.Float32frombits(0x7fc00001)
	got := AppendF32([]byte{0xee}, []float32{1, -2.5, 0, float32(math.Inf(-1)), nan})
	const want = "ee" + "0000803f" + "000020c0" + "00000000" + "000080ff" + "0100c07f"
	if hex.EncodeToString(got) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

// The codec against its slow twin, one element at a time, on any bit pattern
// and any length around the unrolled loop.
func TestF32AgainstSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Uint32(), 0, 41).Draw(t, "bits")
		src, want := make([]float32, len(bits)), []byte{}
		for i, b := range bits {
			src[i] = math.Float32frombits(b)
			want = binary.LittleEndian.AppendUint32(want, b)
		}
		got := AppendF32(nil, src)
		if !bytes.Equal(got, want) {
			t.Fatalf("encoded %x, want %x", got, want)
		}
		back := make([]float32, len(src))
		if err := DecodeF32(back, got); err != nil {
			t.Fatal(err)
		}
		for i := range back {
			if math.Float32bits(back[i]) != bits[i] {
				t.Fatalf("element %d: %x, want %x", i, math.Float32bits(back[i]), bits[i])
			}
		}
	})
}

func TestDecodeF32RefusesOtherLengths(t *testing.T) {
	for _, n := range []int{0, 7, 9, 12} {
		if err := DecodeF32(make([]float32, 2), make([]byte, n)); err == nil {
			t.Errorf("%d bytes for 2 elements were taken", n)
		}
	}
}

func TestDigest(t *testing.T) {
	// FIPS 180-2, appendix B.1.
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := hex.EncodeToString(Digest([]byte("abc"))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func BenchmarkF32(b *testing.B) {
	src := make([]float32, 1<<20)
	buf := AppendF32(nil, src)
	b.Run("append", func(b *testing.B) {
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			buf = AppendF32(buf[:0], src)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if err := DecodeF32(src, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

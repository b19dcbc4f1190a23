package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

// fromHalf agrees with the definition of binary16 for every number.
func TestHalfIsExact(t *testing.T) {
	for h := range 1 << 16 {
		exponent, fraction := h>>10&0x1f, float64(h&0x3ff)
		want := math.Ldexp(1+fraction/1024, exponent-15)
		switch exponent {
		case 0:
			want = math.Ldexp(fraction, -24)
		case 0x1f:
			want = math.Inf(1)
			if fraction > 0 {
				want = math.NaN()
			}
		}
		if h>>15 == 1 {
			want = math.Copysign(want, -1)
		}
		got := float64(fromHalf(uint16(h)))
		if math.IsNaN(want) != math.IsNaN(got) || !math.IsNaN(want) && (got != want || math.Signbit(got) != math.Signbit(want)) {
			t.Fatalf("%x is %v, wanted %v", h, got, want)
		}
	}
}

// wide writes one tensor of a type and gives what ReadWide makes of it.
func wide(t *testing.T, dtype string, data []byte, count int) ([]float32, error) {
	t.Helper()
	var file bytes.Buffer
	err := WriteStreams(&file, []Stream{{Name: "w", Dtype: dtype, Shape: []int{count}, Write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenSafetensors(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, count)
	return out, r.ReadWide("w", out)
}

// Every finite bfloat16 and every float32 comes out as it is, over more than one piece.
func TestWideValuesAreExact(t *testing.T) {
	var in []byte
	var want []float32
	for len(want) < convertFloats+7 {
		b := uint16(len(want) * 40503)
		if v := math.Float32frombits(uint32(b) << 16); !nonFinite(v) {
			in, want = binary.LittleEndian.AppendUint16(in, b), append(want, v)
		} else {
			in, want = binary.LittleEndian.AppendUint16(in, 0x8000), append(want, float32(math.Copysign(0, -1)))
		}
	}
	got, err := wide(t, "BF16", in, len(want))
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("element %d is %v, want %v", i, got[i], want[i])
		}
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(want[i]))
	}
	again, err := wide(t, "F32", raw, len(want))
	if err != nil || math.Float32bits(again[len(want)-1]) != math.Float32bits(want[len(want)-1]) {
		t.Errorf("fp32 changes: %v", err)
	}
}

// What float32 does not hold, and what is not finite, is refused by its name.
func TestWideRefusals(t *testing.T) {
	for _, c := range []struct {
		dtype, says string
		data        []byte
	}{
		{"F64", "type F64", make([]byte, 8)},
		{"I8", "type I8", make([]byte, 1)},
		{"F16", "element 0 of this tensor is +Inf", []byte{0, 0x7c}},
		{"BF16", "element 0 of this tensor is NaN", []byte{0xc0, 0x7f}},
	} {
		_, err := wide(t, c.dtype, c.data, 1)
		var in *fault.Input
		if !errors.As(err, &in) || in.Value != "w" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.dtype, err)
		}
	}
}

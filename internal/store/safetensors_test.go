package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
)

func encodeTensors(t rapid.TB, tensors []store.Tensor, meta map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := store.WriteSafetensors(&out, tensors, meta); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func openTensors(t rapid.TB, data []byte) *store.Reader {
	t.Helper()
	r, err := store.OpenSafetensors(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rawTensors puts a file together from a header as it stands.
func rawTensors(header string, dataBytes int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, dataBytes)...)
}

// The bytes are pinned: other programs read these files.
func TestSafetensorsGolden(t *testing.T) {
	got := encodeTensors(t, []store.Tensor{
		{Name: "w", Shape: []int{2, 1}, F32: []float32{1, -2}},
		{Name: "scalar", F32: []float32{0.5}},
		{Name: "empty", Shape: []int{3, 0}},
	}, map[string]string{"b": "2", "a": "é"})
	header := `{"__metadata__":{"a":"é","b":"2"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},` +
		`"scalar":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"empty":{"dtype":"F32","shape":[3,0],"data_offsets":[12,12]}}`
	for len(header)%8 != 0 {
		header += " "
	}
	want := rawTensors(header, 0)
	want = append(want, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f)
	if !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q, want\n%q", got, want)
	}
}

func drawTensors(t *rapid.T) []store.Tensor {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zß".\\<]{1,6}`), 0, 5, rapid.ID).Draw(t, "names")
	var tensors []store.Tensor
	for _, name := range names {
		shape := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 3).Draw(t, "shape")
		n := 1
		for _, extent := range shape {
			n *= extent
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		}
		tensors = append(tensors, store.Tensor{Name: name, Shape: shape, F32: values})
	}
	return tensors
}

// What is written is read back with the same bits, and its size is known before.
func TestSafetensorsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := drawTensors(t)
		meta := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "meta")
		data := encodeTensors(t, tensors, meta)
		if size, err := store.SafetensorsSize(tensors, meta); err != nil || size != int64(len(data)) {
			t.Fatalf("size %d, %v; want %d", size, err, len(data))
		}
		r := openTensors(t, data)
		if len(r.Meta()) != len(meta) {
			t.Fatalf("metadata %q, want %q", r.Meta(), meta)
		}
		into := make([]store.Tensor, len(tensors))
		for i, x := range tensors {
			into[i] = store.Tensor{Name: x.Name, Shape: x.Shape, F32: make([]float32, len(x.F32))}
		}
		if err := r.ReadAll(into); err != nil {
			t.Fatal(err)
		}
		for i, x := range tensors {
			if !slices.EqualFunc(x.F32, into[i].F32, sameBits) {
				t.Fatalf("tensor %q: read %v, want %v", x.Name, into[i].F32, x.F32)
			}
		}
	})
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// Tensors longer than the piece that is converted at a time.
func TestSafetensorsLong(t *testing.T) {
	values := make([]float32, 200_001)
	for i := range values {
		values[i] = float32(i)
	}
	r := openTensors(t, encodeTensors(t, []store.Tensor{
		{Name: "a", Shape: []int{1}, F32: []float32{7}}, {Name: "b", Shape: []int{len(values)}, F32: values},
	}, nil))
	got := make([]float32, len(values))
	if err := r.ReadF32("b", got); err != nil || !slices.Equal(got, values) {
		t.Errorf("other values, %v", err)
	}
}

func TestSafetensorsWriteRefuses(t *testing.T) {
	for name, tensors := range map[string][]store.Tensor{
		"two of a name": {{Name: "x", Shape: []int{0}}, {Name: "x", Shape: []int{0}}},
		"no name":       {{Shape: []int{0}}},
		"reserved name": {{Name: "__metadata__", Shape: []int{0}}},
		"wrong shape":   {{Name: "x", Shape: []int{2}, F32: make([]float32, 3)}},
		"negative":      {{Name: "x", Shape: []int{-1, 0}}},
		"not UTF-8":     {{Name: "\xff", Shape: []int{0}}},
		"overflow":      {{Name: "x", Shape: []int{math.MaxInt, 2}}},
		"too many":      {{Name: "x", Shape: []int{math.MaxInt / 2}}},
	} {
		if err := store.WriteSafetensors(&bytes.Buffer{}, tensors, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSafetensorsHeader(t *testing.T) {
	x := func(shape, offsets string) string {
		return fmt.Sprintf(`{"x":{"dtype":"F32","shape":%s,"data_offsets":%s}}`, shape, offsets)
	}
	for _, c := range []struct {
		name   string
		header string
		data   int
		want   string // part of the error; empty: accepted
	}{
		{"empty", `{}`, 0, ""},
		{"padded", x("[2]", "[0,8]") + "   ", 8, ""},
		{"keys in any order", `{"x":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}`, 8, ""},
		{"tensors in any order", `{"b":{"dtype":"F16","shape":[2],"data_offsets":[1,5]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 5, ""},
		{"empty tensors anywhere", `{"b":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4, ""},
		{"metadata last", `{"__metadata__":{"k":"v"}}`, 0, ""},
		{"nothing", ``, 0, "does not begin with {"},
		{"list", `[]`, 0, "does not begin with {"},
		{"space before", ` {}`, 0, "does not begin with {"},
		{"cut off", `{"x":`, 0, "the header:"},
		{"not UTF-8", "{\"\xff\":{}}", 0, "not UTF-8"},
		{"text behind", `{} x`, 0, "other than spaces"},
		{"zero bytes behind", "{}\x00", 0, "other than spaces"},
		{"name twice", `{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0, "twice"},
		{"key twice", `{"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0, "twice"},
		{"unknown key", `{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}}`, 0, "not known"},
		{"unknown type", `{"x":{"dtype":"F7","shape":[0],"data_offsets":[0,0]}}`, 0, `type "F7" is not known`},
		{"no shape", `{"x":{"dtype":"U8","data_offsets":[0,0]}}`, 0, "no shape"},
		{"no offsets", `{"x":{"dtype":"U8","shape":[0]}}`, 0, "no two data_offsets"},
		{"three offsets", x("[0]", "[0,0,0]"), 0, "no two data_offsets"},
		{"null for an extent", x("[null]", "[0,0]"), 0, "no shape"},
		{"null for an offset", x("[1]", "[null,4]"), 4, "no two data_offsets"},
		{"shape without end", x("[1"+strings.Repeat(",1", 100_000)+"]", "[0,4]"), 4, "a shape of 100001 numbers"},
		{"fraction", x("[0.5]", "[0,0]"), 0, "0.5"},
		{"text for number", x(`["1"]`, "[0,4]"), 4, "string"},
		{"no object", `{"x":3}`, 0, "where an object should"},
		{"metadata not text", `{"__metadata__":{"k":1}}`, 0, "number"},
		{"metadata null", `{"__metadata__":{"k":null}}`, 0, "is null"},
		{"metadata list", `{"__metadata__":[]}`, 0, "where an object should"},
		{"negative extent", x("[-1]", "[0,4]"), 4, "negative"},
		{"overflow", x("[4611686018427387904,4]", "[0,0]"), 0, "too large"},
		{"overflow of bytes", x("[4611686018427387905]", "[0,4]"), 4, "do not hold"},
		{"negative offset", x("[1]", "[-4,0]"), 0, "do not hold"},
		{"backwards", x("[1]", "[4,0]"), 4, "do not hold"},
		{"shape too small", x("[1]", "[0,8]"), 8, "do not hold"},
		{"hole at the beginning", x("[1]", "[4,8]"), 8, "begins at byte 4"},
		{"hole between", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3, "begins at byte 2"},
		{"overlap", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3, "begins at byte 1"},
		{"bytes behind", x("[1]", "[0,4]"), 5, "take 4 bytes, the file holds 5"},
		{"bytes missing", x("[2]", "[0,8]"), 7, "take 8 bytes, the file holds 7"},
		{"deep", strings.Repeat(`{"a":`, 20_000), 0, "the header:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := rawTensors(c.header, c.data)
			_, err := store.OpenSafetensors(bytes.NewReader(data), int64(len(data)))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var input *fault.Input
			if !errors.As(err, &input) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("opening gave %v, want *fault.Input with %q", err, c.want)
			}
		})
	}
}

func TestSafetensorsShortFile(t *testing.T) {
	whole := encodeTensors(t, []store.Tensor{{Name: "x", Shape: []int{1}, F32: []float32{1}}}, nil)
	for n := range len(whole) {
		if _, err := store.OpenSafetensors(bytes.NewReader(whole[:n]), int64(n)); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(whole))
		}
		// The file was cut off after its size was taken.
		if r, err := store.OpenSafetensors(bytes.NewReader(whole[:n]), int64(len(whole))); err == nil {
			if err := r.ReadF32("x", make([]float32, 1)); err == nil {
				t.Fatalf("a tensor was read from the first %d of %d bytes", n, len(whole))
			}
		}
	}
	huge := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	if _, err := store.OpenSafetensors(bytes.NewReader(huge), math.MaxInt64); err == nil {
		t.Error("a header of 2^64-1 bytes was accepted")
	}
}

func TestSafetensorsRead(t *testing.T) {
	x := store.Tensor{Name: "x", Shape: []int{2, 1}, F32: []float32{1, 2}}
	r := openTensors(t, encodeTensors(t, []store.Tensor{x}, nil))
	half := openTensors(t, rawTensors(`{"x":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}`, 4))
	values := func(n int) []float32 { return make([]float32, n) }
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"missing", r.ReadF32("y", values(2)), `"y": this tensor is missing`},
		{"length", r.ReadF32("x", values(3)), `"x": this tensor has 2 elements, 3 are wanted`},
		{"type", half.ReadF32("x", values(2)), `"x": this tensor has type BF16, F32 is wanted`},
		{"all: missing", r.ReadAll([]store.Tensor{x, {Name: "y"}}), `"y": this tensor is missing`},
		{"all: more", r.ReadAll(nil), `"x": this tensor does not belong to the model`},
		{"all: shape", r.ReadAll([]store.Tensor{{Name: "x", Shape: []int{1, 2}, F32: values(2)}}), "has shape [2 1], [1 2] is wanted"},
	} {
		var input *fault.Input
		if !errors.As(c.err, &input) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want *fault.Input with %q", c.name, c.err, c.want)
		}
	}
}

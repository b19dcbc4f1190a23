package store

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

// sent is a file of two tensors.
func sent(t testing.TB, values ...float32) []byte {
	t.Helper()
	var file bytes.Buffer
	err := WriteSafetensors(&file, []Tensor{{Name: "a", Shape: []int{len(values)}, F32: values}, {Name: "s", Shape: nil, F32: []float32{7}}}, map[string]string{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// A file that comes in is stored byte by byte as it was sent, however it is cut.
func TestIncomingFileIsCopied(t *testing.T) {
	values := make([]float32, convertFloats+3)
	for i := range values {
		values[i] = float32(i)
	}
	file := sent(t, values...)
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(file), "halves": iotest.HalfReader(bytes.NewReader(file)), "end with data": iotest.DataErrReader(bytes.NewReader(file))} {
		in, err := OpenIncoming(r)
		if err != nil {
			t.Fatal(name, err)
		}
		if in.Bytes() != int64(len(file)) || len(in.Tensors) != 2 || in.Meta["k"] != "v" {
			t.Errorf("%s: %d bytes, %+v", name, in.Bytes(), in.Tensors)
		}
		var out bytes.Buffer
		if err := in.CopyFinite(&out); err != nil || !bytes.Equal(out.Bytes(), file) {
			t.Errorf("%s: %v, %d of %d bytes", name, err, out.Len(), len(file))
		}
	}
}

// The danger: an upload that was cut off, or that holds a NaN, is taken for version 0.
func TestIncomingFileIsRefused(t *testing.T) {
	whole := sent(t, 1, 2, 3)
	for cut := range whole {
		in, err := OpenIncoming(bytes.NewReader(whole[:cut]))
		if err == nil {
			err = in.CopyFinite(io.Discard)
		}
		if err == nil {
			t.Fatalf("%d of %d bytes are taken for the whole", cut, len(whole))
		}
	}
	for says, file := range map[string][]byte{
		"follows the last":                          append(sent(t, 1), 0),
		"tensor a: element 1: non-finite value NaN": sent(t, 1, float32(math.NaN())),
		"above the limit":                           {0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0},
	} {
		in, err := OpenIncoming(bytes.NewReader(file))
		if err == nil {
			err = in.CopyFinite(io.Discard)
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// FuzzIncoming: whatever is accepted as a stream is accepted as a file, and has the size
// that was announced.
func FuzzIncoming(f *testing.F) {
	f.Add(sent(f, 1, 2, 3))
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := OpenIncoming(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := in.CopyFinite(&out); err != nil {
			return
		}
		if int64(out.Len()) != in.Bytes() || !bytes.Equal(out.Bytes(), data) {
			t.Fatalf("%d bytes of %d", out.Len(), len(data))
		}
		if _, err := OpenSafetensors(bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
	})
}

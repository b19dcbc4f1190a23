package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

func stream(name, dtype string, shape []int, data []byte) Stream {
	return Stream{Name: name, Dtype: dtype, Shape: shape, Write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// Tensors that are made while they are written give the same file.
func TestStreamsAreTheSameFile(t *testing.T) {
	tensors := []Tensor{{Name: "w", Shape: []int{2, 3}, F32: []float32{1, 2, 3, 4, 5, 6}}, {Name: "s", F32: []float32{7}}}
	meta := map[string]string{"format": "pt"}
	var want, got bytes.Buffer
	if err := WriteSafetensors(&want, tensors, meta); err != nil {
		t.Fatal(err)
	}
	var streams []Stream
	for _, tensor := range tensors {
		var data bytes.Buffer
		if err := writeFloats(&data, tensor.F32, make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream(tensor.Name, "F32", tensor.Shape, data.Bytes()))
	}
	if err := WriteStreams(&got, streams, meta); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%v: %q, wanted %q", err, got.Bytes(), want.Bytes())
	}
	if n, err := StreamsSize(streams, meta); err != nil || n != int64(want.Len()) {
		t.Errorf("size %d, %v; wanted %d", n, err, want.Len())
	}
}

// A tensor writes the bytes of its shape, no more and no less, and is of a known type.
func TestStreamsOfWrongSize(t *testing.T) {
	for says, s := range map[string]Stream{
		"1 bytes of it were not written": stream("w", "BF16", []int{3}, make([]byte, 5)),
		"more bytes":                     stream("w", "BF16", []int{3}, make([]byte, 7)),
		"type \"BF17\"":                  stream("w", "BF17", []int{3}, make([]byte, 6)),
		"negative":                       stream("w", "F32", []int{-1}, nil),
	} {
		if err := WriteStreams(io.Discard, []Stream{s}, nil); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "w") {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestTensorFileThatStandsByItself(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	var in *fault.Input
	for _, p := range []string{path, dir} {
		if _, err := OpenTensorFile(p); !errors.As(err, &in) || in.Where != p {
			t.Errorf("%s: %v", p, err)
		}
	}
	var data bytes.Buffer
	if err := WriteStreams(&data, []Stream{stream("w", "BF16", []int{2}, []byte{1, 2, 3, 4})}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := OpenTensorFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section, info, err := f.Section("w")
	if err != nil || info.Dtype != "BF16" || section.Size() != 4 {
		t.Fatalf("%+v, %v", info, err)
	}
	if got, err := io.ReadAll(section); err != nil || !bytes.Equal(got, []byte{1, 2, 3, 4}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, _, err := f.Section("v"); !errors.As(err, &in) || in.Value != "v" || in.Where != path {
		t.Errorf("a tensor that is missing gives %v", err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTensorFile(path); !errors.As(err, &in) || in.Where != path {
		t.Errorf("a damaged file gives %v", err)
	}
}

// A user names a checkpoint's folder or its run's.
func TestCheckpointAt(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	st, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []uint64{3, 10} {
		w, err := Begin(ctx, st, number)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]uint64{"": 10, "checkpoints/00000003": 3, "checkpoints/00000010": 10} {
		c, _, err := CheckpointAt(ctx, filepath.Join(dir, path))
		if err != nil || c.Number() != want {
			t.Errorf("%s: %d, %v", path, c.Number(), err)
		}
	}
	for _, path := range []string{"checkpoints/00000004", "checkpoints"} {
		if _, _, err := CheckpointAt(ctx, filepath.Join(dir, path)); !errors.Is(err, ErrNoCheckpoint) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

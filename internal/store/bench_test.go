package store_test

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
)

// benchTensors is about 64 MB in tensors of a megabyte.
func benchTensors() []store.Tensor {
	values := make([]float32, 1<<18)
	for i := range values {
		values[i] = float32(math.Sin(float64(i)))
	}
	var tensors []store.Tensor
	for i := range 64 {
		tensors = append(tensors, store.Tensor{Name: string(rune('A' + i)), Shape: []int{1 << 9, 1 << 9}, F32: values})
	}
	return tensors
}

func BenchmarkSave(b *testing.B) {
	st, err := store.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	tensors := benchTensors()
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := store.PutTensors(b.Context(), st, "object", tensors, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	st, err := store.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	tensors := benchTensors()
	w, err := store.Begin(b.Context(), st, 1)
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Tensors(b.Context(), weightsPart, tensors, nil); err != nil {
		b.Fatal(err)
	}
	c, err := w.Commit(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(64 << 20)
		for b.Loop() {
			if err := c.Verify(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(64 << 20)
		for b.Loop() {
			f, err := c.Tensors(b.Context(), weightsPart)
			if err != nil {
				b.Fatal(err)
			}
			if err := f.ReadAll(tensors); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	st, err := store.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s := openSequence(b, st)
	for b.Loop() {
		if _, err := s.Append(b.Context(), notes(1)...); err != nil {
			b.Fatal(err)
		}
	}
}

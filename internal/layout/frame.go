package layout

import (
	"fmt"
	"iter"
	"slices"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/wire"
)

// Frame says where boxes lie in a fragment's flat vector.
type Frame struct {
	fragment fragment.Fragment
	starts   []int // first element of each tensor
}

// NewFrame is the frame of a fragment.
func NewFrame(f fragment.Fragment) Frame {
	starts, at := make([]int, len(f.Sizes)), 0
	for i, n := range f.Sizes {
		starts[i] = at
		at += n
	}
	return Frame{f, starts}
}

// Runs gives the unbroken stretches of the fragment's vector that make up a box: first
// element and length, in row-major order.
func (f Frame) Runs(b Box) iter.Seq2[int, int] {
	start := f.starts[b.Tensor]
	return func(yield func(int, int) bool) {
		for first, n := range b.Runs(f.fragment.Tensors[b.Tensor].Shape) {
			if !yield(start+first, n) {
				return
			}
		}
	}
}

// Gather copies boxes out of the fragment's vector, one behind the other, each in row-major
// order. dst has as many elements as the boxes together.
func (f Frame) Gather(dst, vector []float32, boxes ...Box) {
	at := 0
	for _, b := range boxes {
		for first, n := range f.Runs(b) {
			at += copy(dst[at:], vector[first:first+n])
		}
	}
}

// Scatter is the way back: src holds the boxes one behind the other.
func (f Frame) Scatter(vector, src []float32, boxes ...Box) {
	at := 0
	for _, b := range boxes {
		start := f.starts[b.Tensor]
		for first, n := range b.Runs(f.fragment.Tensors[b.Tensor].Shape) {
			at += copy(vector[start+first:start+first+n], src[at:])
		}
	}
}

// Append is Gather to the bytes of a payload.
func (f Frame) Append(dst []byte, vector []float32, boxes ...Box) []byte {
	dst = slices.Grow(dst, wire.F32Bytes*Size(boxes...))
	for _, b := range boxes {
		start := f.starts[b.Tensor]
		for first, n := range b.Runs(f.fragment.Tensors[b.Tensor].Shape) {
			dst = wire.AppendF32(dst, vector[start+first:start+first+n])
		}
	}
	return dst
}

// Decode is Scatter from the bytes of a payload, which must be of exactly these boxes.
func (f Frame) Decode(vector []float32, payload []byte, boxes ...Box) error {
	if want := wire.F32Bytes * Size(boxes...); len(payload) != want {
		return fmt.Errorf("a payload of %d bytes, its boxes take %d", len(payload), want)
	}
	for _, b := range boxes {
		start := f.starts[b.Tensor]
		for first, n := range b.Runs(f.fragment.Tensors[b.Tensor].Shape) {
			if err := wire.DecodeF32(vector[start+first:start+first+n], payload[:wire.F32Bytes*n]); err != nil {
				return err
			}
			payload = payload[wire.F32Bytes*n:]
		}
	}
	return nil
}

// Size is the number of elements of boxes together.
func Size(boxes ...Box) int {
	n := 0
	for _, b := range boxes {
		n += b.Size()
	}
	return n
}

// Equal says whether two lists hold the same boxes in the same order.
func Equal(a, b []Box) bool {
	return slices.EqualFunc(a, b, func(x, y Box) bool {
		return x.Tensor == y.Tensor && slices.Equal(x.Offset, y.Offset) && slices.Equal(x.Extent, y.Extent)
	})
}

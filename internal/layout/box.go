package layout

import (
	"fmt"
	"iter"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// MaxDims bounds the dimensions of a box; PyTorch's own limit is 64, no model has more than 5.
const MaxDims = 16

// Box is a part of a tensor: the elements from Offset on, Extent many, in every
// dimension. A single offset and extent on a tensor of another number of dimensions
// is a range of its elements in row-major order (flat shards).
type Box struct {
	Tensor         int // place in the list of tensors that it was resolved against
	Offset, Extent []int
}

// Size is the number of elements.
func (b Box) Size() int {
	n := 1
	for _, e := range b.Extent {
		n *= e
	}
	return n
}

// flat: the box is a range of the elements of a tensor of this shape.
func (b Box) flat(shape []int) bool { return len(b.Extent) == 1 && len(shape) != 1 }

// Whole is the box of all of a tensor.
func Whole(tensor int, shape []int) Box {
	return Box{Tensor: tensor, Offset: make([]int, len(shape)), Extent: append([]int(nil), shape...)}
}

// Check says what is wrong with a box of tensor t, or nothing.
func Check(t model.Tensor, b Box) error {
	shape := t.Shape
	if b.flat(shape) {
		shape = []int{t.Size()}
	}
	if len(b.Offset) != len(shape) || len(b.Extent) != len(shape) || len(shape) > MaxDims {
		return wrong(t, b, fmt.Sprintf("a piece of a tensor of %d dimensions needs %d offsets and extents, or one of each for a range of its elements", len(t.Shape), len(t.Shape)))
	}
	for d, size := range shape {
		if b.Extent[d] <= 0 || b.Offset[d] < 0 || b.Offset[d] > size || b.Extent[d] > size-b.Offset[d] {
			return wrong(t, b, fmt.Sprintf("dimension %d has %d elements; a piece lies within it and holds at least one", d, size))
		}
	}
	return nil
}

func wrong(t model.Tensor, b Box, problem string) error {
	return &fault.Input{
		Where: "tensor " + t.Name, Value: fmt.Sprintf("offset %v extent %v", b.Offset, b.Extent),
		Problem: problem, Next: "correct what the layout says about this tensor",
	}
}

// Runs gives the unbroken stretches of a tensor's elements that make up the box: first
// element and length, in row-major order. The box must be one that Check takes.
func (b Box) Runs(shape []int) iter.Seq2[int, int] {
	if b.flat(shape) {
		shape = []int{b.Offset[0] + b.Extent[0]}
	}
	// Dimensions below row are whole: the box goes on without a gap.
	row, length := len(shape), 1
	for row > 0 {
		row--
		length *= b.Extent[row]
		if b.Extent[row] != shape[row] {
			break
		}
	}
	first, strides := 0, make([]int, len(shape))
	stride := 1
	for d := len(shape) - 1; d >= 0; d-- {
		strides[d] = stride
		first += b.Offset[d] * stride
		stride *= shape[d]
	}
	return func(yield func(int, int) bool) {
		index := make([]int, row)
		at := first
		for {
			if !yield(at, length) {
				return
			}
			d := row - 1
			for ; d >= 0; d-- {
				index[d]++
				at += strides[d]
				if index[d] < b.Extent[d] {
					break
				}
				at -= index[d] * strides[d]
				index[d] = 0
			}
			if d < 0 {
				return
			}
		}
	}
}

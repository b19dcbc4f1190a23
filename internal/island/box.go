package island

import (
	"fmt"
	"io"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// windowBytes is how much of a tensor is read at a time for a box of it: a box of columns
// is many short stretches, and a read for each would take longer than what lies between.
const windowBytes = 1 << 20

// boxReader reads boxes of the tensors of a saved state.
type boxReader struct {
	file   *stateFile
	window []byte
	whole  []float32 // of a tensor that lies in boxes
	of     string    // its name
}

// read fills dst with a box of a slot's tensor.
func (b *boxReader) read(slot string, t model.Tensor, box layout.Box, dst []float32) error {
	name := slot + "." + t.Name
	if b.file.boxes[name] != nil {
		if b.of != name {
			b.whole = reuse(b.whole, t.Size())
			if err := b.file.boxes.Read(name, t.Shape, b.whole); err != nil {
				return err
			}
			b.of = name
		}
		gatherBox(dst, b.whole, model.Tensor{Shape: t.Shape}, box)
		return nil
	}
	section, info, err := b.file.Section(name)
	if err != nil {
		return err
	}
	width := store.WideBytes(info.Dtype)
	if width == 0 || section.Size() != int64(width)*int64(t.Size()) {
		return fmt.Errorf("tensor %s has type %s and %d bytes", name, info.Dtype, section.Size())
	}
	if b.window == nil {
		b.window = make([]byte, windowBytes)
	}
	var begin, end int // elements that are in the window
	for first, n := range box.Runs(t.Shape) {
		for n > 0 {
			if first < begin || first >= end {
				size := min(len(b.window)/width, t.Size()-first)
				if _, err := io.ReadFull(io.NewSectionReader(section, int64(width)*int64(first), int64(width)*int64(size)), b.window[:width*size]); err != nil {
					return fmt.Errorf("tensor %s: %w", name, err)
				}
				begin, end = first, first+size
			}
			take := min(n, end-first)
			in := b.window[width*(first-begin):]
			for i := range dst[:take] {
				dst[i] = store.Widen(in, i, info.Dtype)
			}
			dst, first, n = dst[take:], first+take, n-take
		}
	}
	return nil
}

// scatterBox copies a box into its tensor's place in a flat vector.
func scatterBox(flat []float32, t model.Tensor, box layout.Box, src []float32) {
	for first, n := range box.Runs(t.Shape) {
		src = src[copy(flat[t.Offset+first:t.Offset+first+n], src[:n]):]
	}
}

// gatherBox is the way back.
func gatherBox(dst, flat []float32, t model.Tensor, box layout.Box) {
	for first, n := range box.Runs(t.Shape) {
		dst = dst[copy(dst, flat[t.Offset+first:t.Offset+first+n]):]
	}
}

// boxed makes a box of a slot's tensor a tensor of the file.
func boxed(slot string, t model.Tensor, box layout.Box, number int, values []float32) (store.Tensor, gathered.Mark) {
	mark := gathered.Mark{Name: fmt.Sprintf("%s.%s#%d", slot, t.Name, number), Tensor: slot + "." + t.Name, Offset: box.Offset, Extent: box.Extent}
	return store.Tensor{Name: mark.Name, Shape: []int{box.Size()}, F32: values}, mark
}

package layout

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/model"
)

// Defect is the first element of a model, tensors in order and elements row-major, that
// boxes do not cover exactly once.
type Defect struct {
	Tensor  string
	Shape   []int
	Element []int
	Boxes   []int // places in the list of those that hold it: none, or the first two
}

func (d *Defect) Error() string {
	return fmt.Sprintf("tensor %s %v: element %v %s; over all ranks the pieces of replica 0 must cover it exactly once", d.Tensor, d.Shape, d.Element, d.Where())
}

// Where says in how many pieces the element is.
func (d *Defect) Where() string {
	if len(d.Boxes) > 0 {
		return "is in two pieces"
	}
	return "is in no piece"
}

// maxWork bounds what Cover does for one tensor. Pieces of any split that people make
// need a few steps each; only ones that are laid out to be slow come near it.
const maxWork = 20_000_000

// Cover says whether the boxes hold every element of the tensors exactly once; the
// error is a *Defect. Each box must be one that Check takes.
func Cover(tensors []model.Tensor, boxes []Box) error {
	cells := make([][]*cell, len(tensors))
	for i, b := range boxes {
		cells[b.Tensor] = append(cells[b.Tensor], cellsOf(tensors[b.Tensor].Shape, b, i)...)
	}
	for i, t := range tensors {
		s := sweep{shape: t.Shape, at: make([]int, len(t.Shape))}
		of, sound := s.from(0, cells[i])
		if s.work > maxWork {
			return fmt.Errorf("tensor %s: its %d pieces interlock too much to be checked; use fewer, more regular ones", t.Name, len(cells[i]))
		}
		if !sound {
			return &Defect{Tensor: t.Name, Shape: t.Shape, Element: s.at, Boxes: of}
		}
	}
	return nil
}

// cell is a box in as many dimensions as its tensor: lo <= index < hi.
type cell struct {
	lo, hi []int
	of     int // place of the box in the list
}

// cellsOf cuts a range of elements into boxes: the rest of a row, whole rows, the beginning of
// a row, and so in every dimension. Other boxes stay one.
func cellsOf(shape []int, b Box, of int) []*cell {
	if !b.flat(shape) {
		c := &cell{lo: b.Offset, hi: make([]int, len(shape)), of: of}
		for d := range shape {
			c.hi[d] = b.Offset[d] + b.Extent[d]
		}
		return []*cell{c}
	}
	return ranges(nil, shape, make([]int, 0, len(shape)), b.Offset[0], b.Offset[0]+b.Extent[0], of)
}

// ranges appends the cells of the elements from <= n < to below the index prefix.
func ranges(out []*cell, shape, prefix []int, from, to, of int) []*cell {
	d := len(prefix)
	if from >= to {
		return out
	}
	row := 1 // elements of one step in dimension d
	for _, n := range shape[min(d+1, len(shape)):] {
		row *= n
	}
	if d == len(shape) || (from%row == 0 && to%row == 0) {
		return append(out, block(shape, prefix, from/row, to/row, of))
	}
	first, last := from/row, to/row
	if first == last {
		return ranges(out, shape, append(prefix, first), from-first*row, to-first*row, of)
	}
	if from%row > 0 {
		out = ranges(out, shape, append(prefix, first), from%row, row, of)
		first++
	}
	if first < last {
		out = append(out, block(shape, prefix, first, last, of))
	}
	return ranges(out, shape, append(prefix, last), 0, to%row, of)
}

// block is the cell of from <= index < to in the dimension behind the prefix.
func block(shape, prefix []int, from, to, of int) *cell {
	c := &cell{lo: make([]int, len(shape)), hi: slices.Clone(shape), of: of}
	for d, n := range prefix {
		c.lo[d], c.hi[d] = n, n+1
	}
	if d := len(prefix); d < len(shape) {
		c.lo[d], c.hi[d] = from, to
	}
	return c
}

// sweep goes through a tensor slab by slab: between two places where a cell begins or ends in
// one dimension every index has the same cells, so one look at the dimensions below is enough.
type sweep struct {
	shape []int
	at    []int // first element of the slab
	work  int
}

// from checks dimension d and those below it, for the cells of one slab. When it is not sound,
// at is the first element that is not in exactly one cell, and the boxes are those it is in.
func (s *sweep) from(d int, cells []*cell) (boxes []int, sound bool) {
	if len(cells) == 0 {
		return nil, slices.Contains(s.shape[d:], 0)
	}
	if d == len(s.shape) {
		if len(cells) == 1 {
			return nil, true
		}
		boxes := []int{cells[0].of, cells[1].of}
		slices.Sort(boxes)
		return boxes, false
	}
	cells = slices.Clone(cells)
	slices.SortStableFunc(cells, func(a, b *cell) int { return cmp.Compare(a.lo[d], b.lo[d]) })
	var here []*cell
	for from, to := 0, 0; from < s.shape[d]; from = to {
		here = slices.DeleteFunc(here, func(c *cell) bool { return c.hi[d] <= from })
		for len(cells) > 0 && cells[0].lo[d] <= from {
			here, cells = append(here, cells[0]), cells[1:]
		}
		to = s.shape[d]
		if len(cells) > 0 {
			to = cells[0].lo[d]
		}
		for _, c := range here {
			to = min(to, c.hi[d])
		}
		s.at[d] = from
		if s.work += len(here) + 1; s.work > maxWork {
			return nil, false
		}
		if boxes, sound := s.from(d+1, here); !sound {
			return boxes, false
		}
		s.at[d] = 0
	}
	return nil, true
}

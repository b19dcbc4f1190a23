package layout

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/wire"
)

// drawTensors is a small model of tensors of 0 to 4 dimensions.
func drawTensors(t *rapid.T) []model.Tensor {
	out := make([]model.Tensor, rapid.IntRange(1, 4).Draw(t, "tensors"))
	at := 0
	for i := range out {
		out[i] = model.Tensor{Name: fmt.Sprintf("w%d", i), Offset: at, Shape: rapid.SliceOfN(rapid.IntRange(1, 6), 0, 4).Draw(t, "shape")}
		at += out[i].Size()
	}
	return out
}

// drawSplit covers every tensor exactly once: in flat ranges, or by cutting it, and what was
// cut, in any dimension anywhere.
func drawSplit(t *rapid.T, tensors []model.Tensor) []Box {
	var out []Box
	for i, tensor := range tensors {
		parts := rapid.IntRange(1, 7).Draw(t, "parts")
		if rapid.Bool().Draw(t, "flat") {
			out = append(out, flatShards(t, i, tensor, parts)...)
			continue
		}
		pieces := []Box{Whole(i, tensor.Shape)}
		for len(tensor.Shape) > 0 && len(pieces) < parts {
			n := rapid.IntRange(0, len(pieces)-1).Draw(t, "piece")
			d := rapid.IntRange(0, len(tensor.Shape)-1).Draw(t, "dimension")
			b := pieces[n]
			if b.Extent[d] == 1 {
				parts--
				continue
			}
			cut := rapid.IntRange(1, b.Extent[d]-1).Draw(t, "cut")
			rest := Box{Tensor: i, Offset: slices.Clone(b.Offset), Extent: slices.Clone(b.Extent)}
			rest.Offset[d] += cut
			rest.Extent[d] -= cut
			b.Extent = slices.Clone(b.Extent)
			b.Extent[d] = cut
			pieces[n] = b
			pieces = append(pieces, rest)
		}
		out = append(out, pieces...)
	}
	return rapid.Permutation(out).Draw(t, "order")
}

func flatShards(t *rapid.T, i int, tensor model.Tensor, parts int) []Box {
	var out []Box
	at := 0
	for at < tensor.Size() {
		n := tensor.Size() - at
		if len(out)+1 < parts {
			n = rapid.IntRange(1, n).Draw(t, "elements")
		}
		out = append(out, Box{Tensor: i, Offset: []int{at}, Extent: []int{n}})
		at += n
	}
	return out
}

// holds is the twin of everything here: is the element, by its row-major number, in the box?
func holds(shape []int, b Box, element int) bool {
	if b.flat(shape) {
		return element >= b.Offset[0] && element < b.Offset[0]+b.Extent[0]
	}
	for d, n := range indexOf(shape, element) {
		if n < b.Offset[d] || n >= b.Offset[d]+b.Extent[d] {
			return false
		}
	}
	return true
}

func indexOf(shape []int, element int) []int {
	out := make([]int, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		out[d] = element % shape[d]
		element /= shape[d]
	}
	return out
}

// slowCover is Cover, element by element.
func slowCover(tensors []model.Tensor, boxes []Box) *Defect {
	for i, tensor := range tensors {
		for element := range tensor.Size() {
			var of []int
			for n, b := range boxes {
				if b.Tensor == i && holds(tensor.Shape, b, element) {
					of = append(of, n)
				}
			}
			if len(of) != 1 {
				return &Defect{Tensor: tensor.Name, Shape: tensor.Shape, Element: indexOf(tensor.Shape, element), Boxes: of}
			}
		}
	}
	return nil
}

func sameDefect(got error, want *Defect) bool {
	var d *Defect
	if want == nil || !errors.As(got, &d) {
		return got == nil && want == nil
	}
	return d.Tensor == want.Tensor && slices.Equal(d.Element, want.Element) && len(d.Boxes) == min(2, len(want.Boxes)) &&
		!slices.ContainsFunc(d.Boxes, func(n int) bool { return !slices.Contains(want.Boxes, n) })
}

// Any split covers its tensors exactly once; what any change of it makes of that is what
// looking at every element says.
func TestCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := drawTensors(t)
		boxes := drawSplit(t, tensors)
		if err := Cover(tensors, boxes); err != nil {
			t.Fatalf("a split: %v\n%v", err, boxes)
		}
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			n := rapid.IntRange(0, len(boxes)-1).Draw(t, "which")
			switch rapid.SampledFrom([]string{"drop", "twice", "other"}).Draw(t, "change") {
			case "drop":
				boxes = slices.Delete(boxes, n, n+1)
			case "twice":
				boxes = append(boxes, boxes[n])
			case "other":
				boxes[n] = drawBox(t, tensors)
			}
			if len(boxes) == 0 {
				break
			}
		}
		if got, want := Cover(tensors, boxes), slowCover(tensors, boxes); !sameDefect(got, want) {
			t.Fatalf("got %v, want %v\n%v", got, want, boxes)
		}
	})
}

// What is joined holds every element as often as before, whatever the split and its order, and
// joining what lies in one fragment is joining all and taking the fragment's.
func TestJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := drawTensors(t)
		boxes := drawSplit(t, tensors)
		if rapid.Bool().Draw(t, "in order") { // as ranks have them
			slices.SortStableFunc(boxes, func(a, b Box) int { return slices.Compare(a.Offset, b.Offset) })
		}
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			boxes = append(boxes, drawBox(t, tensors))
		}
		before := fmt.Sprint(boxes)
		joined := Join(boxes)
		if fmt.Sprint(boxes) != before || len(joined) > len(boxes) {
			t.Fatalf("%v has become %v, and gives %v", before, boxes, joined)
		}
		for i, tensor := range tensors {
			of := func(boxes []Box) (out []Box) {
				for _, b := range boxes {
					if b.Tensor == i {
						out = append(out, b)
					}
				}
				return out
			}
			if alone := Join(of(boxes)); !Equal(alone, of(joined)) {
				t.Fatalf("tensor %d alone gives %v, among others %v", i, alone, of(joined))
			}
			for element := range tensor.Size() {
				count := func(boxes []Box) (n int) {
					for _, b := range of(boxes) {
						if holds(tensor.Shape, b, element) {
							n++
						}
					}
					return n
				}
				if count(boxes) != count(joined) {
					t.Fatalf("element %d of tensor %d is in %d boxes of %v and %d of %v", element, i, count(boxes), boxes, count(joined), joined)
				}
			}
		}
	})
}

// The danger: what a host of a large model says of itself does not fit into a message. Here are 16
// ranks of FSDP2, one of FSDP1 that cuts anywhere, and boxes that make no sense.
func TestJoinOfShards(t *testing.T) {
	var rows, flat []Box
	for rank := range 16 {
		for tensor := range 3 {
			rows = append(rows, Box{tensor, []int{4 * rank, 0}, []int{4, 7}})
			flat = append(flat, Box{tensor, []int{5 * rank}, []int{5}})
		}
	}
	for _, boxes := range [][]Box{rows, flat} {
		if got := Join(boxes); len(got) != 3 || got[2].Extent[0] != 16*boxes[0].Extent[0] || got[2].Tensor != 2 {
			t.Errorf("%v", got)
		}
	}
	for _, wrong := range [][2]Box{
		{{0, []int{0}, []int{4}}, {0, []int{4}, []int{0}}}, {{0, []int{0}, []int{-4}}, {0, []int{-4}, []int{8}}},
		{{0, []int{0}, []int{4, 4}}, {0, []int{4}, []int{4}}}, {{0, []int{1}, []int{math.MaxInt - 2}}, {0, []int{math.MaxInt - 1}, []int{5}}},
		{{0, []int{0, 0}, []int{4, 4}}, {0, []int{4, 4}, []int{4, 4}}}, {{0, []int{0}, []int{4}}, {0, []int{0}, []int{4}}},
		{{0, nil, nil}, {0, nil, nil}}, {{0, []int{0}, []int{4}}, {1, []int{4}, []int{4}}},
	} {
		if got := Join(wrong[:]); len(got) != 2 {
			t.Errorf("%v gives %v", wrong, got)
		}
	}
}

func drawBox(t *rapid.T, tensors []model.Tensor) Box {
	b := Box{Tensor: rapid.IntRange(0, len(tensors)-1).Draw(t, "tensor")}
	shape := tensors[b.Tensor].Shape
	if rapid.Bool().Draw(t, "flat") {
		shape = []int{tensors[b.Tensor].Size()}
	}
	for _, n := range shape {
		from := rapid.IntRange(0, n-1).Draw(t, "offset")
		b.Offset, b.Extent = append(b.Offset, from), append(b.Extent, rapid.IntRange(1, n-from).Draw(t, "extent"))
	}
	return b
}

// Gather and Scatter move what looking at every element moves, and any split, gathered and
// scattered, is the whole again.
func TestFrame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := drawTensors(t)
		f := fragmentOf(tensors)
		frame := NewFrame(f)
		vector := make([]float32, f.Size)
		for i := range vector {
			vector[i] = float32(i + 1)
		}
		b := drawBox(t, tensors)
		got := make([]float32, b.Size())
		frame.Gather(got, vector, b)
		var want []float32
		for element := range tensors[b.Tensor].Size() {
			if holds(tensors[b.Tensor].Shape, b, element) {
				want = append(want, vector[tensors[b.Tensor].Offset+element])
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("box %v of %v: got %v, want %v", b, tensors, got, want)
		}
		boxes := drawSplit(t, tensors)
		packed, back := make([]float32, Size(boxes...)), make([]float32, f.Size)
		frame.Gather(packed, vector, boxes...)
		frame.Scatter(back, packed, boxes...)
		if !slices.Equal(back, vector) {
			t.Fatalf("split %v: %v came back", boxes, back)
		}
		payload := frame.Append(nil, vector, boxes...)
		if !slices.Equal(payload, wire.AppendF32(nil, packed)) {
			t.Fatalf("split %v: other bytes than its elements", boxes)
		}
		clear(back)
		if err := frame.Decode(back, payload, boxes...); err != nil || !slices.Equal(back, vector) {
			t.Fatalf("split %v: %v came back (%v)", boxes, back, err)
		}
		if frame.Decode(back, payload[1:], boxes...) == nil {
			t.Fatal("a byte is missing and nobody says so")
		}
	})
}

func fragmentOf(tensors []model.Tensor) fragment.Fragment {
	f := fragment.Fragment{Tensors: tensors}
	for _, tensor := range tensors {
		f.Sizes = append(f.Sizes, tensor.Size())
		f.Size += tensor.Size()
	}
	return f
}

// Pieces of every kind that people make, and thousands of them, are checked at once.
func TestCoverIsFast(t *testing.T) {
	var tensors []model.Tensor
	var boxes []Box
	add := func(shape []int, rows, columns int) {
		i := len(tensors)
		tensors = append(tensors, model.Tensor{Name: fmt.Sprint("w", i), Shape: shape})
		for r := range rows {
			for c := range columns {
				h, w := shape[0]/rows, shape[1]/columns
				boxes = append(boxes, Box{Tensor: i, Offset: []int{r * h, c * w}, Extent: []int{h, w}})
			}
		}
	}
	add([]int{1 << 20, 1 << 16}, 64, 128) // a grid
	add([]int{1 << 20, 1 << 16}, 1, 4096) // columns
	for range 17_000 {
		add([]int{1408, 2048}, 1, 4)
	}
	flat := model.Tensor{Name: "flat", Shape: []int{30_011, 4_099}}
	for at, n := 0, flat.Size()/10_000; at < flat.Size(); at += n {
		boxes = append(boxes, Box{Tensor: len(tensors), Offset: []int{at}, Extent: []int{min(n, flat.Size()-at)}})
	}
	tensors = append(tensors, flat)
	began := time.Now()
	if err := Cover(tensors, boxes); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%d pieces took %v", len(boxes), took)
	}
}

// Pieces that are laid out to take for ever are refused, not checked.
func TestCoverIsBounded(t *testing.T) {
	const n = 6_000
	tensors := []model.Tensor{{Name: "w", Shape: []int{n, 2 * n}}}
	var boxes []Box
	for i := range n {
		boxes = append(boxes,
			Box{Offset: []int{0, i}, Extent: []int{n, 1}},
			Box{Offset: []int{i, n}, Extent: []int{1, n}})
	}
	if err := Cover(tensors, boxes); err == nil || !strings.Contains(err.Error(), "interlock") {
		t.Errorf("got %v", err)
	}
}

// What nobody can hold is refused with the tensor's name, sizes that overflow included.
func TestCheckRefuses(t *testing.T) {
	w := model.Tensor{Name: "layers.0.w", Shape: []int{4, 6}}
	for _, c := range []struct{ offset, extent []int }{
		{[]int{0, 0}, []int{4, 7}}, {[]int{1, 0}, []int{4, 6}}, {[]int{0, 0}, []int{0, 6}}, {[]int{-1, 0}, []int{1, 6}},
		{[]int{math.MaxInt, 0}, []int{math.MaxInt, 6}}, {[]int{1, math.MaxInt}, []int{1, 1}}, {[]int{0, 1}, []int{4, math.MaxInt}},
		{[]int{0}, []int{25}}, {[]int{24}, []int{1}}, {[]int{1}, []int{math.MaxInt}}, {[]int{0}, []int{1, 1}},
		{[]int{0, 0, 0}, []int{1, 1, 1}}, {nil, nil}, {[]int{0, 0}, nil},
	} {
		err := Check(w, Box{Offset: c.offset, Extent: c.extent})
		var input *fault.Input
		if !errors.As(err, &input) || !strings.Contains(err.Error(), "layers.0.w") {
			t.Errorf("offset %v extent %v: %v", c.offset, c.extent, err)
		}
	}
	if err := Check(model.Tensor{Name: "scale"}, Box{Offset: []int{0}, Extent: []int{1}}); err != nil {
		t.Errorf("a tensor of no dimensions by its one element: %v", err)
	}
}

// Pieces survive their message, an unknown name is refused, and each goes to its tensor's fragment.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := drawTensors(t)
		boxes := drawSplit(t, tensors)
		back, err := Resolve(tensors, FromWire(ToWire(tensors, boxes)))
		if err != nil || !Equal(back, boxes) {
			t.Fatalf("%v, %v", back, err)
		}
		fragments := []fragment.Fragment{fragmentOf(tensors[:len(tensors)/2]), fragmentOf(tensors[len(tensors)/2:])}
		places, within := Divide(fragments, tensors, boxes)
		seen := 0
		for p, f := range fragments {
			for i, b := range within[p] {
				seen++
				if f.Tensors[b.Tensor].Name != tensors[boxes[places[p][i]].Tensor].Name {
					t.Fatalf("box %d went to the wrong tensor", places[p][i])
				}
			}
			same, err := BoxesFromWire(f, BoxesToWire(within[p]))
			if err != nil || !Equal(same, within[p]) {
				t.Fatalf("%v, %v", same, err)
			}
			if err := Cover(f.Tensors, within[p]); err != nil {
				t.Fatal(err)
			}
		}
		if seen != len(boxes) {
			t.Fatalf("%d of %d boxes have a fragment", seen, len(boxes))
		}
	})
	_, err := Resolve([]model.Tensor{{Name: "a", Shape: []int{2}}}, []Piece{{Name: "b", Offset: []int{0}, Extent: []int{2}}})
	if err == nil || !strings.HasPrefix(err.Error(), "tensor b: the run's model has no tensor of this name") {
		t.Errorf("got %v", err)
	}
}

// Whatever a peer sends, it is refused or lies within the fragment.
func FuzzBoxes(f *testing.F) {
	f.Add(uint32(0), uint64(1), uint64(2), uint64(3), uint64(2), 2)
	f.Add(uint32(7), uint64(math.MaxUint64), uint64(2), uint64(1<<63), uint64(0), 1)
	f.Fuzz(func(t *testing.T, tensor uint32, o0, o1, e0, e1 uint64, dims int) {
		fr := fragmentOf([]model.Tensor{{Name: "a", Shape: []int{5, 7}}, {Name: "b", Shape: []int{3}, Offset: 35}})
		dims = max(0, min(dims, 2))
		b := &wire.Box{Tensor: tensor, Offset: []uint64{o0, o1}[:dims], Extent: []uint64{e0, e1}[:dims]}
		boxes, err := BoxesFromWire(fr, []*wire.Box{b})
		if err != nil {
			return
		}
		NewFrame(fr).Gather(make([]float32, Size(boxes...)), make([]float32, fr.Size), boxes...)
		Cover(fr.Tensors, boxes) //nolint:errcheck // it must only come back
	})
}

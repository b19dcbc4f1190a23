package island

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// divide cuts a tensor into boxes at random: along a dimension, again and again, or as
// ranges of its elements.
func divide(random *rand.Rand, shape []int) []layout.Box {
	whole := layout.Whole(0, shape)
	if random.IntN(3) == 0 {
		whole = layout.Box{Offset: []int{0}, Extent: []int{model.Tensor{Shape: shape}.Size()}}
	}
	boxes := []layout.Box{whole}
	for range random.IntN(5) {
		i := random.IntN(len(boxes))
		b := boxes[i]
		d := random.IntN(len(b.Extent))
		if b.Extent[d] < 2 {
			continue
		}
		n := 1 + random.IntN(b.Extent[d]-1)
		left := layout.Box{Offset: slices.Clone(b.Offset), Extent: slices.Clone(b.Extent)}
		right := layout.Box{Offset: slices.Clone(b.Offset), Extent: slices.Clone(b.Extent)}
		left.Extent[d], right.Offset[d], right.Extent[d] = n, b.Offset[d]+n, b.Extent[d]-n
		boxes[i] = left
		boxes = append(boxes, right)
	}
	return boxes
}

// hosts writes a slot whose boxes lie on several hosts at random, and gives the names.
func hosts(t *testing.T, random *rand.Rand, st store.Store, table []model.Tensor, flat []float32, leaveOut bool) *wire.IslandState {
	t.Helper()
	parts := make([]capture, 1+random.IntN(3))
	for i, x := range table {
		for n, b := range divide(random, x.Shape) {
			if leaveOut && i == 0 && n == 0 {
				continue
			}
			c := &parts[random.IntN(len(parts))]
			values := make([]float32, b.Size())
			gatherBox(values, flat, x, b)
			tensor, mark := boxed(weightsSlot, x, b, len(c.boxes), values)
			c.tensors, c.boxes = append(c.tensors, tensor), append(c.boxes, mark)
		}
	}
	s := &wire.IslandState{}
	for i := range parts {
		c := &parts[i]
		c.boxes = append([]gathered.Mark{}, c.boxes...) // a host that holds nothing has none
		c.counters, c.slots = counters{Format: StateFormat}, []string{weightsSlot}
		o, err := c.write(context.Background(), st, fmt.Sprintf("host-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.Object, s.Digest = o.Name, o.SHA256
		} else {
			s.Parts = append(s.Parts, &wire.StatePart{Object: o.Name, Digest: o.SHA256})
		}
	}
	return s
}

// However the hosts of an island share its tensors, and however those who load them do, all
// values come out where they were.
func TestBoxesOfManyHostsMakeTheWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		var table []model.Tensor
		size := 0
		for i, shape := range [][]int{{5 + random.IntN(9)}, {4, 3 + random.IntN(40)}, {2, 3, 1 + random.IntN(6)}} {
			x := model.Tensor{Name: fmt.Sprintf("t%d", i), Shape: shape, Offset: size}
			table, size = append(table, x), size+x.Size()
		}
		flat := make([]float32, size)
		for i := range flat {
			flat[i] = random.Float32()
		}
		st := store.NewMemory()
		f, err := openState(t.Context(), st, hosts(t, random, st, table, flat, false))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, size)
		if err := f.read(weightsSlot, table, got); err != nil || !sameBits(got, flat) {
			t.Fatalf("read: %v", err)
		}
		boxes := &boxReader{file: f}
		for _, x := range table {
			for _, b := range divide(random, x.Shape) {
				want, got := make([]float32, b.Size()), make([]float32, b.Size())
				gatherBox(want, flat, x, b)
				if err := boxes.read(weightsSlot, x, b, got); err != nil || !sameBits(got, want) {
					t.Fatalf("box %v of %v: %v", b, x.Shape, err)
				}
			}
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f, err = openState(t.Context(), st, hosts(t, random, st, table, flat, true))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.read(weightsSlot, table, got); err == nil {
			t.Fatal("a tensor of which a box is missing was read")
		}
		f.close() //nolint:errcheck // it was read only
	}
}

// A box of a whole tensor that lies in one file is read through a window; a slow twin takes
// the tensor whole.
func TestBoxReaderAgreesWithItsSlowTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	x := model.Tensor{Name: "w", Shape: []int{700, 600}}
	flat := make([]float32, x.Size())
	for i := range flat {
		flat[i] = random.Float32()
	}
	st := store.NewMemory()
	c := &capture{tensors: slotTensors(weightsSlot, []model.Tensor{x}, flat), counters: counters{Format: StateFormat}}
	o, err := c.write(t.Context(), st, "state")
	if err != nil {
		t.Fatal(err)
	}
	f, err := openState(t.Context(), st, &wire.IslandState{Object: o.Name, Digest: o.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	boxes := &boxReader{file: f}
	for range 12 {
		for _, b := range divide(random, x.Shape) {
			want, got := make([]float32, b.Size()), make([]float32, b.Size())
			gatherBox(want, flat, x, b)
			if err := boxes.read(weightsSlot, x, b, got); err != nil || !sameBits(got, want) {
				t.Fatalf("box %v: %v", b, err)
			}
		}
	}
}

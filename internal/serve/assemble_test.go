package serve

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

func twoTensors() []model.Tensor {
	return []model.Tensor{{Name: "w", Shape: []int{4, 6}}, {Name: "b", Shape: []int{5}, Offset: 24}, {Name: "v", Shape: []int{2, 3, 2}, Offset: 29}}
}

// holding is a party of hosts that send these boxes of the whole model.
func holding(t interface{ Fatal(...any) }, hosts ...[]layout.Box) *parties {
	tensors := twoTensors()
	ps := newParties(tensors, fragment.Split(tensors, 2))
	for part, boxes := range hosts {
		hello := &wire.Hello{Part: uint32(part), Parts: uint32(len(hosts)), Pieces: layout.ToWire(tensors, boxes)}
		if why := ps.seat(1, &transport.Peer{}, hello); why != "" {
			t.Fatal(why)
		}
	}
	return ps
}

// cut divides the elements of every tensor among hosts, at random.
func cut(t *rapid.T, hosts int) [][]layout.Box {
	out := make([][]layout.Box, hosts)
	for i, tensor := range twoTensors() {
		for at := 0; at < tensor.Size(); {
			n := rapid.IntRange(1, tensor.Size()-at).Draw(t, "elements")
			host := rapid.IntRange(0, hosts-1).Draw(t, "host")
			out[host] = append(out[host], layout.Box{Tensor: i, Offset: []int{at}, Extent: []int{n}})
			at += n
		}
	}
	return out
}

func partOf(ps *parties, part, p int, sequence uint64, delta []float32) (*wire.Contribution, []byte) {
	boxes := ps.of[1].hosts[part].boxes[p]
	return &wire.Contribution{
		Fragment: uint32(p), Sequence: sequence, ToStep: 7 * sequence,
		Part: uint32(part), Parts: uint32(len(ps.of[1].hosts)), Boxes: layout.BoxesToWire(boxes),
	}, ps.frames[p].Append(nil, delta, boxes...)
}

// Parts of any split, in any order, some of them twice, make the contribution that they were cut
// from, once, to the bit; and nothing before the last one is there.
func TestPartsMakeTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.IntRange(1, 4).Draw(t, "hosts")
		ps := holding(t, cut(t, hosts)...)
		for sequence := range uint64(3) {
			p := rapid.IntRange(0, 1).Draw(t, "fragment")
			delta := make([]float32, ps.fragments[p].Size)
			for i := range delta {
				delta[i] = math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			}
			var order []int
			needed := map[int]bool{}
			for part := range hosts {
				if part > 0 && len(ps.of[1].hosts[part].boxes[p]) == 0 {
					continue
				}
				needed[part] = true
				for range rapid.IntRange(1, 2).Draw(t, "times") {
					order = append(order, part)
				}
			}
			var whole *assembly
			for _, part := range rapid.Permutation(order).Draw(t, "order") {
				c, payload := partOf(ps, part, p, sequence+1, delta)
				got, why := ps.add(1, part, c, payload)
				if why != "" {
					t.Fatal(why)
				}
				delete(needed, part)
				if got != nil && !got.whole {
					if whole != nil || len(needed) > 0 || got.defect != "" {
						t.Fatalf("early, twice or refused: %q, missing %v", got.defect, needed)
					}
					whole = got
				}
			}
			if whole == nil || whole.head.Part != 0 {
				t.Fatal("it never came together")
			}
			if !slices.Equal(wire.AppendF32(nil, whole.delta), wire.AppendF32(nil, delta)) {
				t.Fatalf("got %v, want %v", whole.delta, delta)
			}
		}
	})
}

// A part that does not fit is refused with the host and the reason, whoever comes first; what is
// no part at all ends the island.
func TestPartsThatDoNotFit(t *testing.T) {
	halves := [][]layout.Box{
		{{Tensor: 0, Offset: []int{0, 0}, Extent: []int{4, 3}}, layout.Whole(1, []int{5})},
		{{Tensor: 0, Offset: []int{0, 3}, Extent: []int{4, 3}}, layout.Whole(2, []int{2, 3, 2})},
	}
	for name, change := range map[string]struct {
		do   func(*wire.Contribution, *[]byte)
		want string
	}{
		"step":     {func(c *wire.Contribution, _ *[]byte) { c.ToStep++ }, "host 1: its part is of step 8, another host's of step 7"},
		"short":    {func(_ *wire.Contribution, b *[]byte) { *b = (*b)[4:] }, "host 1: a payload of 44 bytes, its boxes take 48"},
		"other":    {func(c *wire.Contribution, _ *[]byte) { c.Boxes[0].Offset[1]-- }, "host 1: its part holds 1 boxes that are not the 1 it declared"},
		"outside":  {func(c *wire.Contribution, _ *[]byte) { c.Boxes[0].Extent[1]++ }, "host 1: tensor w"},
		"part":     {func(c *wire.Contribution, _ *[]byte) { c.Part = 0 }, "host 1 of 2 sent part 0 of 2 of a contribution"},
		"parts":    {func(c *wire.Contribution, _ *[]byte) { c.Parts = 3 }, "host 1 of 2 sent part 1 of 3 of a contribution"},
		"fragment": {func(c *wire.Contribution, _ *[]byte) { c.Fragment = 2 }, "to fragment 2 of 2"},
	} {
		ps := holding(t, halves...)
		delta := make([]float32, ps.fragments[0].Size)
		c, payload := partOf(ps, 0, 0, 1, delta)
		if got, why := ps.add(1, 0, c, payload); got != nil || why != "" {
			t.Fatalf("%s: the first part alone: %v %q", name, got, why)
		}
		c, payload = partOf(ps, 1, 0, 1, delta)
		change.do(c, &payload)
		got, why := ps.add(1, 1, c, payload)
		if got != nil {
			why = got.defect
		}
		if !strings.Contains(why, change.want) {
			t.Errorf("%s: %q, want %q", name, why, change.want)
		}
	}
}

// Hosts that cannot make an island are turned away.
func TestSeats(t *testing.T) {
	whole := []*wire.Piece{{Tensor: "w", Offset: []uint64{0, 0}, Extent: []uint64{4, 6}}}
	for want, hello := range map[string]*wire.Hello{
		"host 2 of 2: hosts count from 0":                    {Part: 2, Parts: 2},
		"host 1 of 9999: hosts count from 0":                 {Part: 1, Parts: 9999},
		"host 1 of 3: the island's first host does not say":  {Part: 1, Parts: 3},
		"host 1 of the island was here already":              {Part: 1, Parts: 2, Pieces: whole},
		"tensor x: the run's model has no tensor of this":    {Part: 1, Parts: 2, Pieces: []*wire.Piece{{Tensor: "x"}}},
		`tensor w "offset [3 0] extent [2 6]": dimension 0`:  {Part: 1, Parts: 2, Pieces: []*wire.Piece{{Tensor: "w", Offset: []uint64{3, 0}, Extent: []uint64{2, 6}}}},
		fmt.Sprintf(`tensor w "offset [%d] ex`, math.MaxInt): {Part: 1, Parts: 2, Pieces: []*wire.Piece{{Tensor: "w", Offset: []uint64{math.MaxUint64}, Extent: []uint64{2}}}},
	} {
		ps := holding(t, nil, []layout.Box{layout.Whole(0, []int{4, 6})})
		if why := ps.seat(1, &transport.Peer{}, hello); !strings.HasPrefix(why, want) {
			t.Errorf("%q, want %q", why, want)
		}
	}
}

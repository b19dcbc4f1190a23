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
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

func someTensors() []model.Tensor {
	return []model.Tensor{{Name: "w", Shape: []int{4, 6}}, {Name: "b", Shape: []int{5}, Offset: 24}, {Name: "v", Shape: []int{2, 3, 2}, Offset: 29}}
}

// holding is a party of hosts that send these boxes of the whole model.
func holding(t interface{ Fatal(...any) }, hosts ...[]layout.Box) *parties {
	tensors := someTensors()
	ps := newParties(tensors, fragment.Split(tensors, 2))
	for part, boxes := range hosts {
		hello := &wire.Hello{Part: uint32(part), Parts: uint32(len(hosts)), Pieces: layout.ToWire(tensors, boxes)}
		if why := ps.seat(1, &transport.Peer{}, hello); why != "" {
			t.Fatal(why)
		}
	}
	return ps
}

// cut divides every tensor among hosts at random: into ranges of its elements, or along a
// dimension and what comes out of that again (rows, columns, blocks, one expert of a stack).
func cut(t *rapid.T, hosts int) [][]layout.Box {
	out := make([][]layout.Box, hosts)
	give := func(b layout.Box) {
		host := rapid.IntRange(0, hosts-1).Draw(t, "host")
		out[host] = append(out[host], b)
	}
	for i, tensor := range someTensors() {
		if rapid.Bool().Draw(t, "boxes") {
			divide(t, layout.Whole(i, tensor.Shape), give)
			continue
		}
		for at := 0; at < tensor.Size(); {
			n := rapid.IntRange(1, tensor.Size()-at).Draw(t, "elements")
			give(layout.Box{Tensor: i, Offset: []int{at}, Extent: []int{n}})
			at += n
		}
	}
	return out
}

func divide(t *rapid.T, b layout.Box, give func(layout.Box)) {
	d := rapid.IntRange(0, len(b.Extent)-1).Draw(t, "dimension")
	if b.Extent[d] == 1 || rapid.IntRange(0, 2).Draw(t, "enough") == 0 {
		give(b)
		return
	}
	at := rapid.IntRange(1, b.Extent[d]-1).Draw(t, "cut")
	low := layout.Box{Tensor: b.Tensor, Offset: slices.Clone(b.Offset), Extent: slices.Clone(b.Extent)}
	high := layout.Box{Tensor: b.Tensor, Offset: slices.Clone(b.Offset), Extent: slices.Clone(b.Extent)}
	low.Extent[d], high.Offset[d], high.Extent[d] = at, b.Offset[d]+at, b.Extent[d]-at
	divide(t, low, give)
	divide(t, high, give)
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

// Two islands merge to the same bits, whether they send their contributions whole or in the
// parts of any split.
func TestSplitIslandsMergeAsWholeOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.IntRange(0, 1).Draw(t, "fragment")
		var results [2]string
		deltas := [2][]float32{}
		fragments := fragment.Split(someTensors(), 2)
		for i := range deltas {
			deltas[i] = make([]float32, fragments[p].Size)
			for n := range deltas[i] {
				deltas[i][n] = float32(rapid.Float64Range(-1, 1).Draw(t, "delta"))
			}
		}
		for way := range results {
			b := newBank(fragments, outer.Step{Rate: 0.7, Momentum: 0.5}, 1)
			var keys []syncer.Key
			for i, delta := range deltas {
				key := syncer.Key{Incarnation: uint64(i + 1), Fragment: p, Sequence: 1}
				head := &wire.Contribution{Fragment: uint32(p), Sequence: 1, ToPosition: uint64(3 + i), Tokens: uint64(3 + i)}
				for range fragments[p].Tensors {
					head.TensorTokens = append(head.TensorTokens, head.Tokens)
				}
				why := ""
				if way == 0 {
					why = b.put(key, head, wire.AppendF32(nil, delta))
				} else {
					why = b.keep(key, head, inParts(t, p, delta))
				}
				if why != "" {
					t.Fatal(why)
				}
				keys = append(keys, key)
			}
			results[way] = b.merge(syncer.Merge{Fragment: p, Keys: keys, Share: 1}).Digest
		}
		if results[0] != results[1] {
			t.Fatal("other bits")
		}
	})
}

// inParts is what comes together of a contribution that a random split has sent.
func inParts(t *rapid.T, p int, delta []float32) []float32 {
	hosts := rapid.IntRange(1, 4).Draw(t, "hosts")
	ps := holding(t, cut(t, hosts)...)
	for part := hosts - 1; part >= 0; part-- {
		c, payload := partOf(ps, part, p, 1, delta)
		whole, why := ps.add(1, part, c, payload)
		if why != "" {
			t.Fatal(why)
		}
		if whole != nil {
			return whole.delta
		}
	}
	t.Fatal("it never came together")
	return nil
}

// What an island of four hosts costs the syncer beside one that sends a fragment of 8 MB whole:
// columns, the worst that people make.
func BenchmarkAssemble(b *testing.B) {
	const rows, columns, hosts = 1024, 2048, 4
	tensors := []model.Tensor{{Name: "w", Shape: []int{rows, columns}}}
	ps := newParties(tensors, fragment.Split(tensors, 1))
	delta := make([]float32, rows*columns)
	var parts []*wire.Contribution
	var payloads [][]byte
	for part := range hosts {
		boxes := []layout.Box{{Offset: []int{0, part * columns / hosts}, Extent: []int{rows, columns / hosts}}}
		ps.seat(1, &transport.Peer{}, &wire.Hello{Part: uint32(part), Parts: hosts, Pieces: layout.ToWire(tensors, boxes)})
		c, payload := partOf(ps, part, 0, 0, delta)
		parts, payloads = append(parts, c), append(payloads, payload)
	}
	b.SetBytes(int64(4 * len(delta)))
	for n := 0; b.Loop(); n++ {
		for part := range hosts {
			parts[part].Sequence = uint64(n + 1)
			if _, why := ps.add(1, part, parts[part], payloads[part]); why != "" {
				b.Fatal(why)
			}
		}
	}
}

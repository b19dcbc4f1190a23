package layout

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/wire"
)

// MaxPieces is the most that one rank or host may declare; the largest models have some
// ten thousand tensors, and no split makes more than a few pieces of one.
const MaxPieces = 1 << 20

// Piece is a box by its tensor's name, as people and other programs say it.
type Piece struct {
	Name           string
	Offset, Extent []int
}

// Resolve finds the tensors of pieces and checks each. The error is bad input that names the tensor.
func Resolve(tensors []model.Tensor, pieces []Piece) ([]Box, error) {
	if len(pieces) > MaxPieces {
		return nil, &fault.Input{Where: "layout", Problem: fmt.Sprintf("%d pieces, at most %d are taken", len(pieces), MaxPieces)}
	}
	place := make(map[string]int, len(tensors))
	for i, t := range tensors {
		place[t.Name] = i
	}
	boxes := make([]Box, len(pieces))
	for i, p := range pieces {
		at, known := place[p.Name]
		if !known {
			return nil, &fault.Input{
				Where: "tensor " + p.Name, Problem: "the run's model has no tensor of this name",
				Next: "join with the model that the run trains",
			}
		}
		boxes[i] = Box{Tensor: at, Offset: p.Offset, Extent: p.Extent}
		if err := Check(tensors[at], boxes[i]); err != nil {
			return nil, err
		}
	}
	return boxes, nil
}

// FromWire reads the pieces of a message.
func FromWire(pieces []*wire.Piece) []Piece {
	out := make([]Piece, len(pieces))
	for i, p := range pieces {
		out[i] = Piece{Name: p.GetTensor(), Offset: ints(p.GetOffset()), Extent: ints(p.GetExtent())}
	}
	return out
}

// ToWire is the message for boxes of these tensors.
func ToWire(tensors []model.Tensor, boxes []Box) []*wire.Piece {
	out := make([]*wire.Piece, len(boxes))
	for i, b := range boxes {
		out[i] = &wire.Piece{Tensor: tensors[b.Tensor].Name, Offset: uints(b.Offset), Extent: uints(b.Extent)}
	}
	return out
}

// BoxesFromWire reads the boxes of a contribution to the fragment and checks each.
func BoxesFromWire(f fragment.Fragment, boxes []*wire.Box) ([]Box, error) {
	if len(boxes) > MaxPieces {
		return nil, fmt.Errorf("%d boxes, at most %d are taken", len(boxes), MaxPieces)
	}
	out := make([]Box, len(boxes))
	for i, b := range boxes {
		if int(b.GetTensor()) >= len(f.Tensors) {
			return nil, fmt.Errorf("a box of tensor %d, the fragment has %d", b.GetTensor(), len(f.Tensors))
		}
		out[i] = Box{Tensor: int(b.GetTensor()), Offset: ints(b.GetOffset()), Extent: ints(b.GetExtent())}
		if err := Check(f.Tensors[out[i].Tensor], out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// BoxesToWire is the message for boxes of a fragment.
func BoxesToWire(boxes []Box) []*wire.Box {
	out := make([]*wire.Box, len(boxes))
	for i, b := range boxes {
		out[i] = &wire.Box{Tensor: uint32(b.Tensor), Offset: uints(b.Offset), Extent: uints(b.Extent)}
	}
	return out
}

// Divide sorts boxes of the whole model by fragment: for each fragment the places of its boxes in
// the list, and those boxes with the place of their tensor in the fragment.
func Divide(fragments []fragment.Fragment, tensors []model.Tensor, boxes []Box) (places [][]int, within [][]Box) {
	type place struct{ fragment, tensor int }
	where := make(map[string]place, len(tensors))
	for p, f := range fragments {
		for i, t := range f.Tensors {
			where[t.Name] = place{p, i}
		}
	}
	places, within = make([][]int, len(fragments)), make([][]Box, len(fragments))
	for i, b := range boxes {
		w := where[tensors[b.Tensor].Name]
		b.Tensor = w.tensor
		places[w.fragment], within[w.fragment] = append(places[w.fragment], i), append(within[w.fragment], b)
	}
	return places, within
}

// ints converts; what is too large becomes the largest, which no tensor has.
func ints(values []uint64) []int {
	out := make([]int, len(values))
	for i, v := range values {
		out[i] = int(min(v, math.MaxInt))
	}
	return out
}

func uints(values []int) []uint64 {
	out := make([]uint64, len(values))
	for i, v := range values {
		out[i] = uint64(v)
	}
	return out
}

package island

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// The danger: a host of 16 ranks of the largest model there is a preset of, 290 B parameters in
// 17,000 tensors sharded over 512 ranks, says what it sends in more bytes than go into a message;
// or what it declares is not what it sends.
func TestAHostOfManyRanksOfALargeModel(t *testing.T) {
	cfg, err := model.Preset("ling-plus")
	if err != nil {
		t.Fatal(err)
	}
	const world, host = 512, 16
	tensors := cfg.Tensors()
	c := &crew{}
	for rank := range host {
		h := &attach.Hello{Parts: 32, Part: 1}
		for _, tensor := range tensors {
			shard := (tensor.Size() + world - 1) / world // of FSDP1: ranges of elements
			from := min((host+rank)*shard, tensor.Size())
			if n := min(shard, tensor.Size()-from); n > 0 {
				h.Pieces = append(h.Pieces, attach.Piece{Name: tensor.Name, Offset: []int{from}, Extent: []int{n}})
			}
		}
		c.ranks = append(c.ranks, &attach.Rank{Hello: h})
	}
	hello := &wire.Hello{Pieces: c.sent()}
	if n := proto.Size(hello); n > transport.MaxFrameBytes/2 || len(hello.Pieces) > len(tensors) {
		t.Errorf("%d pieces in %d bytes", len(hello.Pieces), n)
	}
	fragments := fragment.Split(tensors, 64)
	h, err := newHolding(t.Context(), c.ranks, tensors, fragments)
	if err != nil {
		t.Fatal(err)
	}
	declared, err := layout.Resolve(tensors, layout.FromWire(hello.Pieces))
	if err != nil {
		t.Fatal(err)
	}
	_, within := layout.Divide(fragments, tensors, declared)
	for p := range fragments {
		if own := h.own(p); !layout.Equal(own, within[p]) {
			t.Fatalf("fragment %d: %d boxes are sent, %d declared", p, len(own), len(within[p]))
		}
	}
}

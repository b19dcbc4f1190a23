package serve

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// parties are the islands that say which pieces of the model each of their hosts sends,
// by incarnation. Any other island has one host that sends everything.
type parties struct {
	tensors   []model.Tensor
	fragments []fragment.Fragment
	frames    []layout.Frame

	mu sync.Mutex // guards what follows and every party
	of map[uint64]*party
}

// party is one such island: its hosts, called parts, and the contributions that are being
// put together from what they send.
type party struct {
	hosts      []partner
	assemblies []assembly // by fragment
}

// partner is one host of an island.
type partner struct {
	peer   *transport.Peer // nil: it has not come yet, or is gone
	pid    uint64          // of its process
	pieces []layout.Box    // of the whole model: what it sends
	boxes  [][]layout.Box  // the same by fragment
	ready  *wire.Ready     // nil: it has not installed every fragment
}

func newParties(tensors []model.Tensor, fragments []fragment.Fragment) *parties {
	ps := &parties{tensors: tensors, fragments: fragments, of: map[uint64]*party{}}
	for _, f := range fragments {
		ps.frames = append(ps.frames, layout.NewFrame(f))
	}
	return ps
}

// seat gives a session its place in its island, or says why there is none. Part 0
// comes first: the others have its incarnation from it.
func (ps *parties) seat(inc uint64, p *transport.Peer, hello *wire.Hello) (why string) {
	part, count := int(hello.Part), max(1, int(hello.Parts))
	if count > maxParts || part >= count {
		return fmt.Sprintf("host %d of %d: hosts count from 0, and at most %d make an island", part, count, maxParts)
	}
	boxes, err := layout.Resolve(ps.tensors, layout.FromWire(hello.Pieces))
	if err != nil {
		return err.Error()
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island := ps.of[inc]
	switch {
	case part == 0 && island != nil: // back after a broken stream: what it said stands
		island.hosts[0].peer = p
		return ""
	case part == 0 && count == 1 && len(boxes) == 0:
		return ""
	case part == 0:
		island = &party{hosts: make([]partner, count), assemblies: make([]assembly, len(ps.fragments))}
		ps.of[inc] = island
	case island == nil || len(island.hosts) != count:
		return fmt.Sprintf("host %d of %d: the island's first host does not say that it spans %d hosts", part, count, count)
	case island.hosts[part].boxes != nil:
		return fmt.Sprintf("host %d of the island was here already; when one is lost the island joins anew", part)
	}
	_, within := layout.Divide(ps.fragments, ps.tensors, boxes)
	island.hosts[part] = partner{peer: p, pid: hello.Pid, pieces: boxes, boxes: within}
	return ""
}

// met says whether the very process that comes was seated before. Its session is over, whether that
// was noticed here or not.
func (ps *parties) met(inc uint64, hello *wire.Hello) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island, part := ps.of[inc], int(hello.Part)
	return island != nil && part < len(island.hosts) && island.hosts[part].boxes != nil && island.hosts[part].pid == hello.Pid
}

// maxParts bounds what a Hello alone can cost.
const maxParts = 4096

// complete says whether every host of the incarnation has come.
func (ps *parties) complete(inc uint64) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island := ps.of[inc]
	return island == nil || island.complete()
}

func (p *party) complete() bool {
	return !slices.ContainsFunc(p.hosts, func(h partner) bool { return h.boxes == nil })
}

// others are the sessions of all hosts but the first.
func (ps *parties) others(inc uint64) []*transport.Peer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []*transport.Peer
	if island := ps.of[inc]; island != nil {
		for _, h := range island.hosts[1:] {
			if h.peer != nil {
				out = append(out, h.peer)
			}
		}
	}
	return out
}

// partOf is the place of a session in its island; -1: it does not speak for it.
func (ps *parties) partOf(inc uint64, p *transport.Peer) int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if island := ps.of[inc]; island != nil {
		return slices.IndexFunc(island.hosts, func(h partner) bool { return h.peer == p })
	}
	return -1
}

// left forgets a session that is over and says whose it was; part 0 may come back.
func (ps *parties) left(p *transport.Peer) (inc uint64, part int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for inc, island := range ps.of {
		for part := range island.hosts {
			if island.hosts[part].peer == p {
				island.hosts[part].peer = nil
				return inc, part
			}
		}
	}
	return 0, 0
}

// drop forgets an incarnation that is over.
func (ps *parties) drop(inc uint64) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.of, inc)
}

// prepared notes that a host has installed every fragment, and returns what each of them says
// it holds once all have. An island that declares nothing is one host.
func (ps *parties) prepared(inc uint64, part int, r *wire.Ready) []*wire.Ready {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island := ps.of[inc]
	if island == nil {
		return []*wire.Ready{r}
	}
	island.hosts[part].ready = r
	var all []*wire.Ready
	for _, h := range island.hosts {
		if h.ready == nil {
			return nil
		}
		all = append(all, h.ready)
	}
	return all
}

// uncovered says what is wrong with the pieces of all hosts together, or nothing.
func (ps *parties) uncovered(inc uint64) string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island := ps.of[inc]
	if island == nil {
		return ""
	}
	var boxes []layout.Box
	var from []int
	for part, h := range island.hosts {
		for _, b := range h.pieces {
			boxes, from = append(boxes, b), append(from, part)
		}
	}
	err := layout.Cover(ps.tensors, boxes)
	if err == nil {
		return ""
	}
	var d *layout.Defect
	if errors.As(err, &d) && len(d.Boxes) == 2 && len(island.hosts) > 1 {
		return fmt.Sprintf("%v (hosts %d and %d)", err, from[d.Boxes[0]], from[d.Boxes[1]])
	}
	return err.Error()
}

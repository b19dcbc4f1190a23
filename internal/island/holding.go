package island

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
)

// holding is what the ranks of this host hold of the model, and the traffic between
// their shared memory and the fragments' vectors. Ranks use it at the same time.
type holding struct {
	life      context.Context
	ranks     []*attach.Rank
	table     []model.Tensor
	fragments []fragment.Fragment
	frames    []layout.Frame
	pieces    [][][]int                // by rank and fragment: numbers of the pieces
	boxes     [][][]layout.Box         // the same as boxes of the fragment
	gives     [][]bool                 // by rank and piece: its weights are needed here
	taken     func(p int, d *delivery) // told when all ranks have taken a delivery, with mu held; nil: nobody asks

	mu      sync.Mutex
	news    chan struct{} // closed and made anew when something has changed
	parcels []parcels     // by fragment
}

// parcels is what is under way with one fragment.
type parcels struct {
	queue    []*delivery // first: what the ranks take next
	prepared *delivery   // in the areas already, and not ordered yet
	sequence uint64      // of the contribution that is gathered
	given    []bool      // by rank: it has given its part
	apart    bool        // weights differ from the anchor since the last delivery
}

// newHolding resolves what the ranks say they hold. Whether that covers the model is
// checked for an island on one host; the syncer checks it over many.
func newHolding(life context.Context, ranks []*attach.Rank, table []model.Tensor, fragments []fragment.Fragment) (*holding, error) {
	h := &holding{life: life, ranks: ranks, table: table, fragments: fragments, news: make(chan struct{}), parcels: make([]parcels, len(fragments))}
	for p := range h.parcels {
		h.parcels[p].given = make([]bool, len(ranks))
	}
	for _, f := range fragments {
		h.frames = append(h.frames, layout.NewFrame(f))
	}
	var out sent
	for _, r := range ranks {
		boxes, err := boxesOf(r.Hello, table)
		if err != nil {
			return nil, err
		}
		pieces, within := layout.Divide(fragments, table, boxes)
		h.pieces, h.boxes = append(h.pieces, pieces), append(h.boxes, within)
		out.add(r, boxes)
	}
	h.gives = given(ranks)
	if ranks[0].Hello.Parts > 1 {
		return h, nil
	}
	return h, out.cover(table)
}

// given says which pieces are copied out when weights are gathered: those that are sent, and of
// those that another host sends one of each, for what they adopt is the difference to it.
func given(ranks []*attach.Rank) [][]bool {
	sent := map[string]bool{}
	for _, r := range ranks {
		for _, p := range r.Hello.Pieces {
			sent[fmt.Sprint(p.Name, p.Offset, p.Extent)] = sent[fmt.Sprint(p.Name, p.Offset, p.Extent)] || p.Replica == 0
		}
	}
	out := make([][]bool, len(ranks))
	for i, r := range ranks {
		for _, p := range r.Hello.Pieces {
			key := fmt.Sprint(p.Name, p.Offset, p.Extent)
			out[i] = append(out[i], p.Replica == 0 || !sent[key])
			sent[key] = true
		}
	}
	return out
}

// own are the boxes of a fragment that this host sends, joined as its hello says them.
func (h *holding) own(p int) []layout.Box {
	var out []layout.Box
	for i, r := range h.ranks {
		for n, piece := range h.pieces[i][p] {
			if r.Hello.Pieces[piece].Replica == 0 {
				out = append(out, h.boxes[i][p][n])
			}
		}
	}
	return layout.Join(out)
}

// encode gives the payload of a flight: of the whole fragment, or of what this host sends of it.
func (h *holding) encode(p int, fl *flight) []byte {
	if h.hosts() == 1 {
		return fl.encode()
	}
	boxes := h.own(p)
	return h.frames[p].Append(make([]byte, 0), difference(fl.delta, fl.anchor, fl.sent), boxes...)
}

// hosts of the island.
func (h *holding) hosts() int { return max(1, h.control().Hello.Parts) }

// follows: this is not the island's first host. What is ordered there comes here by way of the
// ranks, so that its order is that of their questions.
func (h *holding) follows() bool { return h.control().Hello.Part > 0 }

// control is the rank that speaks for the island, or on its other hosts the first.
func (h *holding) control() *attach.Rank { return h.ranks[0] }

// place of a rank in the lists.
func (h *holding) place(r *attach.Rank) int { return slices.Index(h.ranks, r) }

// tell wakes who waits; mu is held.
func (h *holding) tell() {
	close(h.news)
	h.news = make(chan struct{})
}

// expect begins the gathering of a contribution.
func (h *holding) expect(p int, sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parcels[p].sequence = sequence
	clear(h.parcels[p].given)
	h.tell()
}

// gather notes that a rank has given its part, and says whether all have.
func (h *holding) gather(r *attach.Rank, g *attach.Gathered) (all bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.place(r)
	if g.Fragment < len(h.parcels) {
		at := &h.parcels[g.Fragment]
		if done := at.sequence == 0 || !slices.Contains(at.given, false); h.follows() && done && g.Sequence == at.sequence+1 {
			at.sequence = g.Sequence
			clear(at.given)
		}
	}
	if g.Fragment >= len(h.parcels) || h.parcels[g.Fragment].sequence != g.Sequence || h.parcels[g.Fragment].given[i] {
		return false, senseless("gathered fragment %d for contribution %d, which was not asked for", g.Fragment, g.Sequence)
	}
	given := h.parcels[g.Fragment].given
	given[i] = true
	return !slices.Contains(given, false), nil
}

// collect copies what the ranks have given to the fragment's vector.
func (h *holding) collect(p int, vector []float32) {
	for i, r := range h.ranks {
		for n, piece := range h.pieces[i][p] {
			if r.Out[piece] != nil {
				h.frames[p].Scatter(vector, r.Out[piece], h.boxes[i][p][n])
			}
		}
	}
}

// share makes the memory of every rank and says what goes where.
func (h *holding) share(welcome attach.Welcome) ([]*attach.Welcome, error) {
	out := make([]*attach.Welcome, len(h.ranks))
	for i, r := range h.ranks {
		w := welcome
		sizes := make([]int, len(r.Hello.Pieces))
		for p, pieces := range h.pieces[i] {
			for n, piece := range pieces {
				sizes[piece] = h.boxes[i][p][n].Size()
			}
			w.Fragments = append(w.Fragments, append([]int{}, pieces...))
		}
		if err := r.Share(sizes, h.gives[i], &w); err != nil {
			return nil, fmt.Errorf("rank %d: %w", r.Hello.Rank, err)
		}
		out[i] = &w
	}
	return out, nil
}

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

// delivery is a value on its way to the ranks.
type delivery struct {
	op      string
	version uint64
	value   []float32
	sent    []float32 // of an adoption: where the learner was
	changed []bool    // by rank, once it is in the areas
	apart   bool
	taken   []bool // by rank
	probe   bool   // of the gate: not what the learner trains on
}

func adopting(f *exchange) *delivery {
	v := f.flight.verdict
	return &delivery{op: attach.Adopt, version: v.version, value: v.value, sent: f.flight.sent}
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
	var sent []layout.Box
	for _, r := range ranks {
		boxes, err := boxesOf(r.Hello, table)
		if err != nil {
			return nil, err
		}
		pieces, within := layout.Divide(fragments, table, boxes)
		h.pieces, h.boxes = append(h.pieces, pieces), append(h.boxes, within)
		for i, b := range boxes {
			if r.Hello.Pieces[i].Replica == 0 {
				sent = append(sent, b)
			}
		}
	}
	h.gives = given(ranks)
	if ranks[0].Hello.Parts > 1 {
		return h, nil
	}
	return h, layout.Cover(table, sent)
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

// own are the boxes of a fragment that this host sends.
func (h *holding) own(p int) (out []layout.Box) {
	for i, r := range h.ranks {
		for n, piece := range h.pieces[i][p] {
			if r.Hello.Pieces[piece].Replica == 0 {
				out = append(out, h.boxes[i][p][n])
			}
		}
	}
	return out
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

// prepare puts an adoption into the areas before it is ordered, if they are free.
func (h *holding) prepare(p int, d *delivery) {
	h.mu.Lock()
	free := len(h.parcels[p].queue) == 0
	h.mu.Unlock()
	if !free {
		return
	}
	h.fill(p, d)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parcels[p].prepared = d
}

// deliver puts a value behind those that the ranks have not taken yet. What is ordered
// while another one waits is copied, for who gave it will use its memory again.
func (h *holding) deliver(p int, d *delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := &h.parcels[p]
	if ready := at.prepared; ready != nil && ready.op == d.op && ready.version == d.version && &ready.sent[0] == &d.sent[0] {
		d = ready
	}
	at.prepared = nil
	d.taken = make([]bool, len(h.ranks))
	for i := range d.taken {
		d.taken[i] = len(h.pieces[i][p]) == 0
	}
	if !slices.Contains(d.taken, false) {
		h.pass(p, d)
		return
	}
	if h.follows() {
		at.queue = append(at.queue, d)
		h.tell()
		return
	}
	if at.queue = append(at.queue, d); len(at.queue) == 1 {
		h.next(p)
	} else {
		d.value, d.sent = slices.Clone(d.value), slices.Clone(d.sent)
	}
}

// next makes the first delivery ready to be taken; mu is held.
func (h *holding) next(p int) {
	at := &h.parcels[p]
	if d := at.queue[0]; d.changed == nil {
		h.fill(p, d)
	}
	if !at.queue[0].probe {
		at.apart = at.queue[0].apart
	}
	h.tell()
}

// fill computes a delivery into the areas of all ranks.
func (h *holding) fill(p int, d *delivery) {
	changed := make([]bool, len(h.ranks))
	for i, r := range h.ranks {
		for n, piece := range h.pieces[i][p] {
			box := h.boxes[i][p][n]
			h.frames[p].Gather(r.In[piece], d.value, box)
			if d.op == attach.Install {
				changed[i] = true
				continue
			}
			moved, apart := h.subtract(p, r.In[piece], r.Out[piece], d.sent, box)
			changed[i], d.apart = changed[i] || moved, d.apart || apart
		}
	}
	d.changed = changed
}

// subtract is in ← value − sent for one box, whose value is in in. Changed: it moves the
// weights. Apart: the weights, which are out, will not be value then, for the difference
// of two fp32 numbers is rounded.
func (h *holding) subtract(p int, in, out, sent []float32, box layout.Box) (changed, apart bool) {
	at := 0
	for first, n := range h.frames[p].Runs(box) {
		for i, s := range sent[first : first+n] {
			value := in[at+i]
			in[at+i] = value - s
			changed = changed || in[at+i] != 0
			apart = apart || out != nil && out[at+i]+in[at+i] != value
		}
		at += n
	}
	return changed, apart
}

// fetch answers a rank once the value it asks for is in its area.
func (h *holding) fetch(r *attach.Rank, q *attach.Fetch) error {
	if q.Fragment >= len(h.parcels) {
		return senseless("fragment %d of %d was asked for", q.Fragment, len(h.parcels))
	}
	for {
		h.mu.Lock()
		d, err := h.first(q)
		news := h.news
		h.mu.Unlock()
		if err != nil {
			return err
		}
		if d != nil {
			return r.Send(&attach.Value{Fragment: q.Fragment, Version: q.Version, Changed: d.changed[h.place(r)]})
		}
		select {
		case <-news:
		case <-h.life.Done():
			return context.Cause(h.life)
		}
	}
}

// first is the delivery that is asked for when it is its turn; nil: later. mu is held.
func (h *holding) first(q *attach.Fetch) (*delivery, error) {
	queue := h.parcels[q.Fragment].queue
	for i, d := range queue {
		if d.op != q.Op || d.version != q.Version {
			continue
		}
		if h.follows() && queue[0].changed == nil { // the question is the order
			queue[0], queue[i], i = queue[i], queue[0], 0
			h.next(q.Fragment)
		}
		if i > 0 {
			return nil, nil
		}
		return d, nil
	}
	if !h.follows() { // the order is older than the question
		return nil, senseless("%s of fragment %d at version %d was not ordered", q.Op, q.Fragment, q.Version)
	}
	return nil, nil
}

// adopted notes that a rank has taken its part; when all have, the areas are free.
func (h *holding) adopted(r *attach.Rank, a *attach.Adopted) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.place(r)
	if a.Fragment < len(h.parcels) && len(h.pieces[i][a.Fragment]) == 0 {
		return nil // it had nothing to take, and nobody waits for it
	}
	if a.Fragment >= len(h.parcels) || len(h.parcels[a.Fragment].queue) == 0 ||
		h.parcels[a.Fragment].queue[0].version != a.Version || h.parcels[a.Fragment].queue[0].taken[i] {
		return senseless("adopted fragment %d at version %d, which was not there to adopt", a.Fragment, a.Version)
	}
	at := &h.parcels[a.Fragment]
	d := at.queue[0]
	d.taken[i] = true
	if slices.Contains(d.taken, false) {
		return nil
	}
	at.queue = at.queue[1:]
	h.pass(a.Fragment, d)
	if len(at.queue) > 0 && !h.follows() {
		h.next(a.Fragment)
	}
	return nil
}

// pass: a delivery is with all who take it; mu is held.
func (h *holding) pass(p int, d *delivery) {
	if h.taken != nil {
		h.taken(p, d)
	}
	h.tell()
}

// forgetAdoptions drops those that nobody has asked for: the learner has gone on without them.
func (h *holding) forgetAdoptions(p int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parcels[p].queue = slices.DeleteFunc(h.parcels[p].queue, func(d *delivery) bool { return d.op == attach.Adopt && d.changed == nil })
}

// apart: after the last delivery the weights are not the syncer's value, as far as no step
// was made since.
func (h *holding) apart(p int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parcels[p].apart
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

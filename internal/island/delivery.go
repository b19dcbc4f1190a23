package island

import (
	"context"
	"slices"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/layout"
)

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

package island

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
)

// keeping is an external trainer's state on its way to or from its ranks. Each rank gives
// and takes its own pieces; what lies in the file is whole, so that another number of
// ranks, another layout or another engine can go on with it.
type keeping struct {
	holding *holding
	table   []model.Tensor
	slots   []string // that the ranks can give and take, weights first

	mu   sync.Mutex
	news chan struct{} // closed and made anew when something is to be saved
	out  *outgoing     // nil: nothing is being saved
	in   *incoming     // nil: nothing is being restored
	kept keptFiles
}

// outgoing is a state that is being saved.
type outgoing struct {
	checkpoint uint64
	flat       map[string][]float32 // by slot, in the order of the table; nil: this host has boxes only
	capture    *capture
	given      map[string][]bool // by slot and rank
	done       func(error)
}

// newKeeping is for the slots that every rank has.
func newKeeping(h *holding, table []model.Tensor) *keeping {
	k := &keeping{holding: h, table: table, slots: []string{weightsSlot}, news: make(chan struct{})}
	for _, slot := range slotNames()[1:] {
		if slices.Contains(h.control().Hello.Slots, slot) {
			k.slots = append(k.slots, slot)
		}
	}
	return k
}

// size is the elements of a slot of the whole model.
func (k *keeping) size() int {
	last := k.table[len(k.table)-1]
	return last.Offset + last.Size()
}

// none given yet, by slot and rank.
func (k *keeping) none(slots []string) map[string][]bool {
	out := map[string][]bool{}
	for _, slot := range slots {
		out[slot] = make([]bool, len(k.holding.ranks))
	}
	return out
}

// all: every rank has given every slot.
func all(given map[string][]bool) bool {
	for _, ranks := range given {
		if slices.Contains(ranks, false) {
			return false
		}
	}
	return true
}

// held is what a rank holds of a tensor: a box of it, and the areas for that.
type held struct {
	tensor  model.Tensor
	box     layout.Box
	in, out []float32 // out nil: it gives nothing
	replica int
}

// eachPiece calls f for what a rank holds.
func (k *keeping) eachPiece(r *attach.Rank, f func(held) error) error {
	h, i := k.holding, k.holding.place(r)
	for p := range h.fragments {
		for n, piece := range h.pieces[i][p] {
			box := h.boxes[i][p][n]
			of := held{h.fragments[p].Tensors[box.Tensor], box, r.In[piece], r.Out[piece], r.Hello.Pieces[piece].Replica}
			if err := f(of); err != nil {
				return err
			}
		}
	}
	return nil
}

// slot takes what a rank has put into its out-area. Finish is what is left to do once all
// have, and gives what follows from it on the runner's goroutine.
func (k *keeping) slot(r *attach.Rank, m *attach.Slot) (finish func() func(), err error) {
	k.mu.Lock()
	out, in := k.out, k.in
	k.mu.Unlock()
	switch {
	case m.Checkpoint != 0 && out != nil && out.checkpoint == m.Checkpoint && out.given[m.Slot] != nil:
		finish, err = k.collect(out, r, m)
	case m.Checkpoint == 0 && in != nil && in.given[m.Slot] != nil:
		finish, err = k.compare(in, r, m)
	default:
		err = senseless("slot %.40q for checkpoint %d, which was not asked for", m.Slot, m.Checkpoint)
	}
	if err != nil {
		return nil, err
	}
	return finish, r.Send(&attach.Taken{})
}

// collect copies a rank's pieces of a slot to their places. A replica is not saved: its original
// is, perhaps by another host.
func (k *keeping) collect(out *outgoing, r *attach.Rank, m *attach.Slot) (finish func() func(), err error) {
	k.eachPiece(r, func(h held) error { //nolint:errcheck // none fails
		switch {
		case h.replica != 0:
		case out.flat != nil:
			scatterBox(out.flat[m.Slot], h.tensor, h.box, h.out)
		default:
			k.mu.Lock()
			defer k.mu.Unlock()
			tensor, mark := boxed(m.Slot, h.tensor, h.box, len(out.capture.boxes), slices.Clone(h.out))
			out.capture.tensors, out.capture.boxes = append(out.capture.tensors, tensor), append(out.capture.boxes, mark)
		}
		return nil
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := &out.capture.counters; r.Hello.Control() {
		c.AdamSteps, c.LossScale, c.GoodSteps = m.Steps, float32(m.Scale), m.ScaleSteps
	}
	out.given[m.Slot][k.holding.place(r)] = true
	if k.out != out || !all(out.given) {
		return nil, nil
	}
	k.out = nil
	return func() func() {
		err := out.finish(k)
		return func() { out.done(err) }
	}, nil
}

// finish names the tensors, and refuses values that no checkpoint may hold.
func (out *outgoing) finish(k *keeping) error {
	for _, slot := range k.slots {
		if out.flat != nil {
			out.capture.tensors = append(out.capture.tensors, slotTensors(slot, k.table, out.flat[slot])...)
		}
	}
	for _, t := range out.capture.tensors {
		if !outer.Finite(t.F32) {
			slot, _, _ := strings.Cut(t.Name, ".")
			return fmt.Errorf("%s hold a value that is not finite", slot)
		}
	}
	return nil
}

// save asks the ranks for their state at the next boundary.
func (x *external) save(c *capture, done func(error)) {
	k := x.keeping
	if !k.expect(c, &x.reserve, done) {
		done(errors.New("the state before is still being copied"))
		return
	}
	x.order(attach.Action{Do: attach.Save, Keeping: &attach.Keeping{Checkpoint: c.checkpoint, Slots: k.slots, Folder: c.folder}})
}

// expect begins to collect what ranks give for a checkpoint; false: another one is not
// collected yet.
func (k *keeping) expect(c *capture, memory *reserve, done func(error)) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out != nil {
		return false
	}
	out := &outgoing{checkpoint: c.checkpoint, given: k.none(k.slots), capture: c, done: done}
	if k.holding.hosts() == 1 {
		out.flat = map[string][]float32{}
		vectors, release := memory.room(k.size())
		for i, slot := range slotNames() {
			if slices.Contains(k.slots, slot) {
				out.flat[slot] = vectors[i]
			}
		}
		c.release = release
	} else {
		c.boxes, c.slots = []gathered.Mark{}, k.slots
	}
	c.awaitFiles = k.kept.expect(c.checkpoint, len(k.holding.ranks))
	k.out = out
	close(k.news)
	k.news = make(chan struct{})
	return true
}

// drop gives up what was to be saved and never was.
func (k *keeping) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out = nil
}

// expected waits until a checkpoint is to be saved here: a rank may hear of it sooner than
// a host beside the first.
func (k *keeping) expected(checkpoint uint64) error {
	for {
		k.mu.Lock()
		there, news := k.out != nil && k.out.checkpoint == checkpoint, k.news
		k.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-news:
		case <-k.holding.life.Done():
			return context.Cause(k.holding.life)
		}
	}
}

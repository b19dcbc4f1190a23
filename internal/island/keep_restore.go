package island

import (
	"fmt"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/wire"
)

// incoming is a state that is being restored.
type incoming struct {
	state *savedState
	given map[string][]bool // by slot and rank: gathered anew, and found equal
	done  func(*wire.Restored, error)
}

// restore orders what is saved into the ranks.
func (x *external) restore(s *savedState, done func(*wire.Restored, error)) {
	slots := x.keeping.begin(s, done)
	if len(slots) == 0 && len(s.files) == 0 {
		return
	}
	keep := &attach.Keeping{
		Slots: slots, Steps: s.file.adamSteps(), Scale: attach.Number(s.file.counters.LossScale), ScaleSteps: s.file.counters.GoodSteps,
	}
	for _, f := range s.files {
		keep.Files = append(keep.Files, attach.File{Rank: int(f.Rank), Path: f.Path})
	}
	x.order(attach.Action{Do: attach.Restore, Keeping: keep})
}

// begin makes a state ready to be taken, and says which of its slots the ranks can take.
// Without any it is done.
func (k *keeping) begin(s *savedState, done func(*wire.Restored, error)) []string {
	var slots []string
	for _, slot := range k.slots {
		if s.file.has(slot) && !(s.momentsOnly && slot == weightsSlot) {
			slots = append(slots, slot)
		}
	}
	in := &incoming{state: s, given: k.none(slots), done: done}
	if len(slots) == 0 {
		done(k.report(in))
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.in = in
	return slots
}

// load puts a rank's pieces of a slot into its in-area.
func (k *keeping) load(r *attach.Rank, m *attach.Load) error {
	k.mu.Lock()
	in := k.in
	k.mu.Unlock()
	if in == nil || in.given[m.Slot] == nil {
		return senseless("slot %.40q, which was not to be restored", m.Slot)
	}
	boxes := &boxReader{file: in.state.file}
	err := k.eachPiece(r, func(h held) error { return in.state.piece(boxes, m.Slot, h.tensor, h.box, h.in) })
	if err != nil {
		return fmt.Errorf("saved state: %w", err)
	}
	return r.Send(&attach.Loaded{})
}

// piece is what a rank is to have of a slot's tensor: of the file, or of the weights that
// were composed of it and of the model's.
func (s *savedState) piece(boxes *boxReader, slot string, t model.Tensor, box layout.Box, dst []float32) error {
	if slot == weightsSlot {
		gatherBox(dst, s.weights, t, box)
		return nil
	}
	return boxes.read(slot, t, box, dst)
}

// compare looks at what a rank has gathered anew from where it loaded it: bit for bit it
// must be what is in the state.
func (k *keeping) compare(in *incoming, r *attach.Rank, m *attach.Slot) (finish func() func(), err error) {
	if err := k.unlike(in.state, r, m.Slot); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	in.given[m.Slot][k.holding.place(r)] = true
	if k.in != in || !all(in.given) {
		return nil, nil
	}
	k.in = nil
	return func() func() {
		report, err := k.report(in)
		return func() { in.done(report, err) }
	}, nil
}

// unlike names the first tensor of which a rank does not hold what it has loaded.
func (k *keeping) unlike(s *savedState, r *attach.Rank, slot string) error {
	boxes := &boxReader{file: s.file}
	var want []float32
	return k.eachPiece(r, func(h held) error {
		if h.out == nil {
			return nil
		}
		want = reuse(want, h.box.Size())
		if err := s.piece(boxes, slot, h.tensor, h.box, want); err != nil {
			return fmt.Errorf("saved state: %w", err)
		}
		for i, v := range want {
			if math.Float32bits(v) != math.Float32bits(h.out[i]) {
				return &fault.Input{
					Where: fmt.Sprintf("rank %d", r.Hello.Rank), Value: slot + "." + h.tensor.Name, Problem: fmt.Sprintf("holds %v where %v was loaded (element %d of its piece)", h.out[i], v, i),
					Next: "the adapter must give and take " + slot + " in fp32, and pieces where it says they are",
				}
			}
		}
		return nil
	})
}

// report is made of the file, which every rank was found to hold.
func (k *keeping) report(in *incoming) (*wire.Restored, error) {
	now, file := map[string][]float32{}, in.state.file
	for slot := range in.given {
		if now[slot] = in.state.weights; slot == weightsSlot {
			continue
		}
		now[slot] = make([]float32, k.size())
		if err := file.read(slot, k.table, now[slot]); err != nil {
			return nil, err
		}
	}
	for _, slot := range slotNames()[1:] {
		switch has := file.has(slot); {
		case has && in.given[slot] == nil:
			file.remark("%s of the state are not used: the trainer keeps none", slot)
		case !has && slices.Contains(k.slots, slot):
			file.remark("%s begin at zero: the state has none", slot)
		}
	}
	return in.state.report(k.table, now)
}

package attachtest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/attach"
)

// slots are the optimizer state that a rank keeps, if its hello says so.
func slots() []string { return []string{"moment1", "moment2"} }

// Keeping gives every rank an optimizer with moments.
func Keeping(hellos []attach.Hello) []attach.Hello {
	for i := range hellos {
		hellos[i].Slots = slots()
	}
	return hellos
}

// State is what a rank has beside its weights.
type State struct {
	Moments map[string][][]float32 // by slot and piece
	Steps   uint64
	Own     string // a text that it saves itself; empty: nothing
	Spare   string // a folder of its host for that; empty: beside the checkpoint
	Files   []attach.File
	Bend    func(slot string, piece int, values []float32) // spoils what was loaded; nil: nobody does
}

// room makes the moments of a rank.
func (r *Rank) room() {
	r.State.Moments = map[string][][]float32{}
	for _, slot := range r.Hello.Slots {
		for _, w := range r.Weights {
			r.State.Moments[slot] = append(r.State.Moments[slot], make([]float32, len(w)))
		}
	}
}

// values of a slot, by piece.
func (r *Rank) values(slot string) [][]float32 {
	if slot == "weights" {
		return r.Weights
	}
	return r.State.Moments[slot]
}

// learn changes the moments of a piece as a step does, element by element; second ones
// are never negative.
func (r *Rank) learn(piece int) {
	for n, slot := range r.Hello.Slots {
		m := r.State.Moments[slot][piece]
		for i, w := range r.Weights[piece] {
			if n == 1 {
				w *= w
			}
			m[i] = float32(m[i]*0.5) + w
		}
	}
}

// save gives every slot, and keeps what the rank saves itself.
func (r *Rank) save(k *attach.Keeping) error {
	for _, slot := range k.Slots {
		if err := r.give(k.Checkpoint, slot); err != nil {
			return err
		}
	}
	path := ""
	if r.State.Own != "" {
		folder := cmp.Or(r.State.Spare, k.Folder)
		path = filepath.Join(folder, fmt.Sprintf("rank-%d.txt", r.Hello.Rank))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(r.State.Own), 0o600); err != nil {
			return err
		}
	}
	return r.Say(&attach.Kept{Checkpoint: k.Checkpoint, Path: path})
}

// give puts a slot into the out-area and waits until it is taken.
func (r *Rank) give(checkpoint uint64, slot string) error {
	for p, values := range r.values(slot) {
		if at := r.Welcome.Out[p]; at >= 0 {
			copy(r.area(at, len(values)), values)
		}
	}
	m, err := r.Ask(&attach.Slot{Checkpoint: checkpoint, Slot: slot, Steps: r.State.Steps})
	if _, ok := m.(*attach.Taken); err == nil && !ok {
		err = fmt.Errorf("slot was answered by %#v", m)
	}
	return err
}

// restore takes every slot, and gives it back to be compared.
func (r *Rank) restore(k *attach.Keeping) error {
	r.State.Steps, r.State.Files = k.Steps, k.Files
	for _, slot := range k.Slots {
		m, err := r.Ask(&attach.Load{Slot: slot})
		if _, ok := m.(*attach.Loaded); err == nil && !ok {
			err = fmt.Errorf("load was answered by %#v", m)
		}
		if err != nil {
			return err
		}
		for p, values := range r.values(slot) {
			copy(values, r.area(r.Welcome.In[p], len(values)))
			if r.State.Bend != nil {
				r.State.Bend(slot, p, values)
			}
		}
		if err := r.give(0, slot); err != nil {
			return err
		}
	}
	return nil
}

package serve

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// restoredRecord: an island goes on from a saved state, perhaps on other chips, in
// another layout, in another engine.
type restoredRecord struct {
	Kind        string      `json:"kind"` // "restored"
	At          time.Time   `json:"at"`
	Incarnation uint64      `json:"incarnation"`
	Island      string      `json:"island"`
	State       string      `json:"state"` // name in the store
	From        string      `json:"from_layout"`
	To          string      `json:"to_layout"`
	Peer        string      `json:"moments_of,omitempty"` // the island that saved it, of a joiner that takes its moments only
	Slots       []SavedSlot `json:"slots"`                // gathered anew, equal to what was saved
	Files       int         `json:"files,omitempty"`      // that its trainer had saved itself, and was given
	Remarks     []string    `json:"remarks"`
}

// wholeFleet is how many islands are named one by one.
const wholeFleet = 4

// fleetInWords says on what the islands of a run compute. Those of a checkpoint say it
// themselves where they have saved a state; saved may be nil.
func fleetInWords(islands []runfile.Island, saved map[string]SavedPart) string {
	var kinds, each []string
	count := map[string]int{}
	for _, i := range islands {
		words := i.Layout().String()
		if s := saved[i.Name].Layout; s != "" {
			words = s
		}
		if count[words]++; count[words] == 1 {
			kinds = append(kinds, words)
		}
		each = append(each, i.Name+": "+words)
	}
	if len(islands) <= wholeFleet {
		return strings.Join(each, "; ")
	}
	for k, words := range kinds {
		kinds[k] = fmt.Sprintf("%d × %s", count[words], words)
	}
	return strings.Join(kinds, "; ")
}

// layoutNote tells what a resumed run was on and what it is on now. A run file that this
// program cannot read any more tells nothing.
func (op *opened) layoutNote(meta Meta) string {
	now := fleetInWords(op.run.Islands, nil)
	if now == "" {
		now = "islands that join from outside"
	}
	old, err := runfile.Parse("checkpoint", []byte(meta.Run))
	if err != nil {
		return "layout: " + now
	}
	for _, name := range slices.Sorted(maps.Keys(meta.Islands)) { // those that had joined from outside
		if !slices.ContainsFunc(old.Islands, func(i runfile.Island) bool { return i.Name == name }) {
			old.Islands = append(old.Islands, runfile.Island{Name: name})
		}
	}
	was := fleetInWords(old.Islands, meta.Islands)
	if was == now {
		return "layout as it was: " + now
	}
	return "layout: " + was + " → " + now
}

// stateNotes tells of islands whose saved state nobody takes over, and of those that have none.
func (op *opened) stateNotes(meta Meta) []string {
	var without, unused []string
	inRun := map[string]bool{}
	for _, i := range op.run.Islands {
		inRun[i.Name] = true
		if _, ok := op.offers.restores[i.Name]; !ok {
			without = append(without, i.Name)
		}
	}
	before := slices.Collect(maps.Keys(meta.Islands))
	if old, err := runfile.Parse("checkpoint", []byte(meta.Run)); err == nil {
		for _, i := range old.Islands {
			before = append(before, i.Name)
		}
	}
	slices.Sort(before)
	for _, name := range slices.Compact(before) {
		if _, awaited := op.offers.restores[name]; !inRun[name] && !awaited {
			unused = append(unused, name)
		}
	}
	var notes []string
	if len(unused) > 0 {
		notes = append(notes, "not in the run any more, their samples that are not in the model are trained again: "+strings.Join(unused, ", "))
	}
	if len(without) > 0 {
		notes = append(notes, "without a state of their own, from the model: "+strings.Join(without, ", "))
	}
	return notes
}

// slotsOf is how a checkpoint keeps digests.
func slotsOf(in []*wire.SlotDigest) []SavedSlot {
	var out []SavedSlot
	for _, s := range in {
		out = append(out, SavedSlot{Slot: s.Slot, Digest: s.Digest})
	}
	return out
}

// unlikeSaved says where what an island gathered after loading is not what it had saved,
// or nothing. Slots that it does not name were not loaded to the bit; its remarks tell why.
func (r restore) unlikeSaved(got *wire.Restored) string {
	for _, want := range r.saved.Slots {
		for _, s := range got.GetSlots() {
			if s.Slot == want.Slot && want.Digest != "" && s.Digest != want.Digest {
				return fmt.Sprintf("its %s, gathered anew, have SHA-256 %.12s…, the checkpoint's have %.12s…", s.Slot, s.Digest, want.Digest)
			}
		}
	}
	return ""
}

// restored compares what an island gathered anew from its saved state, puts it on the tape
// and before the user. An island says it at the beginning of each of its sessions.
// Of an island over several hosts all must have said so.
func (h *host) restored(inc uint64, part int, got *wire.Restored) {
	r, ok := h.offers.of(inc)
	if !ok || h.told[inc] {
		return
	}
	island := h.crew.island(inc)
	if why := r.unlikeSaved(got); why != "" {
		h.decide(coord.Quarantine{Incarnation: inc, Why: "island " + island + ": " + why})
		return
	}
	if h.awaited[inc] == nil {
		h.awaited[inc] = map[int]*wire.Restored{}
	}
	h.awaited[inc][part] = got
	if first := h.awaited[inc][0]; first != nil && len(h.awaited[inc]) > len(h.parties.others(inc)) {
		h.told[inc] = true
		delete(h.awaited, inc)
		h.decide(coord.Restored{Incarnation: inc})
		h.tellRestored(inc, island, r, first)
	}
}

func (h *host) tellRestored(inc uint64, island string, r restore, got *wire.Restored) {
	record := restoredRecord{
		Kind: "restored", At: h.now(), Incarnation: inc, Island: island, State: r.state.Object, From: r.saved.Layout, To: got.Layout, Peer: r.peer,
		Slots: slotsOf(got.Slots), Files: len(r.state.Files), Remarks: slices.Clone(got.Remarks),
	}
	h.coordFX.push(func() {
		if !h.append(h.coordTape, record) {
			h.coordFX.abandon()
		}
	})
	h.emit(ledger.Note{At: time.Now(), Text: record.String()})
	for _, remark := range record.Remarks {
		h.emit(ledger.Note{At: time.Now(), Text: "island " + island + ": " + remark})
	}
}

// String is one line for a person.
func (r restoredRecord) String() string {
	moved := r.From + " → " + r.To
	if r.From == "" || r.From == r.To {
		moved = r.To
	}
	switch {
	case r.Peer != "" && len(r.Slots) == 0 && r.Files > 0:
		return fmt.Sprintf("island %s joins with what its trainer had saved: files of %d ranks", r.Island, r.Files)
	case r.Peer != "" && len(r.Slots) == 0:
		return fmt.Sprintf("island %s joins without moments", r.Island)
	case len(r.Slots) == 0:
		return fmt.Sprintf("island %s goes on from its saved state: %s", r.Island, moved)
	}
	var slots []string
	for _, s := range r.Slots {
		slots = append(slots, fmt.Sprintf("%s %.12s", s.Slot, s.Digest))
	}
	if r.Peer != "" {
		return fmt.Sprintf("island %s joins with the moments of %s: %s", r.Island, r.State, strings.Join(slots, ", "))
	}
	return fmt.Sprintf("island %s: %s; gathered anew, its state is the saved one: %s", r.Island, moved, strings.Join(slots, ", "))
}

package serve

import (
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// Danger: a checkpoint is pruned while an island reads its state in it: a slow host is told the
// name, and the object is gone when it asks. What is on offer, and what was named to who has not
// said that it has it, is in use; what was carried is on offer in the newest.
func TestStatesInUse(t *testing.T) {
	o := newOffers()
	in := func(number uint64) restore {
		return restore{number: number, state: &wire.IslandState{Object: store.PartName(number, "islands/x")}, saved: SavedPart{Digest: "d"}}
	}
	peer := in(5)
	peer.peer = "b"
	o.restores["a"], o.restores["c"] = in(3), in(3)
	o.brought[7], o.brought[8] = in(3), peer
	expect := func(number uint64, islands map[string]SavedPart, want ...uint64) {
		t.Helper()
		if got := o.saved(number, islands, "/run"); !slices.Equal(got, want) {
			t.Errorf("with checkpoint %d saved, %v are in use, want %v", number, got, want)
		}
	}
	expect(6, map[string]SavedPart{"a": {Digest: "d", carried: true}, "c": {Digest: "e"}}, 3, 5, 6) // c's own is no carried one
	if r, _ := o.waiting("a"); r.state.Object != store.PartName(6, "islands/a.safetensors") || r.saved.Digest != "d" {
		t.Errorf("a is to take over %+v", r.state)
	}
	o.taken(7, "c")
	expect(7, nil, 5, 6)
	o.over(8)
	o.withdraw("a")
	expect(8, nil)
}

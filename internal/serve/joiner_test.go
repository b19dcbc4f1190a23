package serve

import (
	"testing"

	"github.com/mistura-project/mistura/internal/store"
)

// A joiner's moments are those of its own last state, or else of whoever had trained most.
func TestWhoseMomentsAJoinerTakes(t *testing.T) {
	both := []SavedSlot{{"weights", "a"}, {"moment1", "b"}, {"moment2", "c"}}
	saved := &savedStates{islands: map[string]SavedPart{
		"a": {Position: 40, Slots: both}, "b": {Position: 90, Slots: both}, "c": {Position: 90, Slots: both},
		"sgd": {Position: 500, Slots: both[:1]}, "old": {Position: 600}, "own": {Position: 700, Slots: both[:1], Files: []SavedFile{{Path: "x"}}},
	}}
	for island, want := range map[string]string{"a": "a", "c": "c", "new": "b", "sgd": "b", "old": "b", "own": "own"} {
		if got := saved.peer(island); got != want {
			t.Errorf("%s takes those of %q, want %q", island, got, want)
		}
	}
	if got := (*savedStates)(nil).peer("a"); got != "" {
		t.Errorf("without a checkpoint: %q", got)
	}
	if got := (&savedStates{islands: map[string]SavedPart{"sgd": {Slots: both[:1]}}}).peer("a"); got != "" {
		t.Errorf("without moments: %q", got)
	}
}

// A host that does not share the run's folder may have stored its part of a state somewhere
// else: the checkpoint goes without that island's state, and not without everything.
func TestStateThatIsNotHere(t *testing.T) {
	st := store.NewMemory()
	for _, part := range []string{islandPart("a"), islandPart("b"), hostPart("b", 1), islandPart("c")} {
		if err := st.Create(t.Context(), store.PartName(3, part), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	c := &cutState{number: 3, meta: Meta{Islands: map[string]SavedPart{
		"a": {}, "b": {Hosts: []SavedHost{{Host: 1}}}, "c": {Hosts: []SavedHost{{Host: 1}}},
	}}}
	c.dropAbsent(t.Context(), st)
	if _, there := c.meta.Islands["c"]; there || len(c.meta.Islands) != 2 || len(c.absent) != 1 {
		t.Errorf("it has %v, and misses %v", c.meta.Islands, c.absent)
	}
}

package serve

import "testing"

// A joiner's moments are those of its own last state, or else of whoever had trained most.
func TestWhoseMomentsAJoinerTakes(t *testing.T) {
	both := []SavedSlot{{"weights", "a"}, {"moment1", "b"}, {"moment2", "c"}}
	saved := &savedStates{islands: map[string]SavedPart{
		"a": {Position: 40, Slots: both}, "b": {Position: 90, Slots: both}, "c": {Position: 90, Slots: both},
		"sgd": {Position: 500, Slots: both[:1]}, "old": {Position: 600},
	}}
	for island, want := range map[string]string{"a": "a", "c": "c", "new": "b", "sgd": "b", "old": "b"} {
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

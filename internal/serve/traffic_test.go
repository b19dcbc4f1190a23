package serve

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// What has moved is told once, of each incarnation, and what came is not lost under what went.
func TestTrafficIsToldOnce(t *testing.T) {
	var moved traffic
	moved.note(0, true) // of an arrival that has no incarnation yet
	moved.note(7, false)
	moved.note(3, true)
	moved.note(3, false)
	if got, want := moved.take(), []coord.Moved{{Incarnation: 3, Came: true}, {Incarnation: 7}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if again := moved.take(); len(again) != 0 {
		t.Errorf("told again: %+v", again)
	}
}

// Danger: tokens or a saved state take longer to fetch than limits.first_step_seconds, and the
// island is ended while they come.
func TestFetchingIsTraffic(t *testing.T) {
	st := store.NewMemory()
	if err := st.Create(t.Context(), "checkpoints/a", []byte("state")); err != nil {
		t.Fatal(err)
	}
	a, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := &host{opened: &opened{store: st, authority: a, runID: "r"}}
	who := &wire.Credentials{Secret: a.Pass("r", authority.Life{Era: 1, Incarnation: 9, Island: "x"})}
	f, err := desk{h}.Fetch(t.Context(), who, "checkpoints/a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h.traffic.take()
	var got strings.Builder
	if _, err := io.Copy(&got, io.NewSectionReader(f, 0, f.Size())); err != nil || got.String() != "state" {
		t.Fatalf("%q, %v", got.String(), err)
	}
	if moved := h.traffic.take(); !slices.Equal(moved, []coord.Moved{{Incarnation: 9}}) {
		t.Errorf("%+v", moved)
	}
}

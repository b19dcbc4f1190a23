package ledger

import "testing"

// A state that nobody has taken over is said in one line and stays in the status.
func TestNotRestored(t *testing.T) {
	e := NotRestored{Island: "a", Incarnation: 4, Offers: 3, Reason: "rank 1 holds another value"}
	if want := "island a begins from the model: its saved state was not taken over in 3 tries: rank 1 holds another value"; e.String() != want {
		t.Errorf("it says %q", e)
	}
	s := New()
	s.Apply(e)
	if f := s.Fleet(); !Notable(e) || f.Islands[0].Unrestored != e.Reason {
		t.Errorf("%+v", f.Islands)
	}
}

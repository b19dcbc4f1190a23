package ledger

import (
	"testing"
	"time"
)

// What was decided about an island at the gate stays in the status and the summary: not asked
// yet, refused and why, also while it tries again, then passed; of a past life nothing.
func TestGateOfAnIsland(t *testing.T) {
	now := time.Unix(0, 0)
	s := fold(RunStarted{At: now, Islands: []string{"a"}})
	shows := func(gate, reason string) {
		t.Helper()
		if m := s.Fleet().Islands[0]; m.Gate != gate || m.GateReason != reason {
			t.Errorf("status: %q, %q", m.Gate, m.GateReason)
		}
		i := s.Summary().Islands[0]
		if (i.Gate == nil) != (gate == "") || i.Gate != nil && *i.Gate != gate || i.GateReason != reason {
			t.Errorf("summary: %v, %q", i.Gate, i.GateReason)
		}
	}
	shows("", "")
	s.Apply(IslandStarted{At: now, Island: "a", Incarnation: 1})
	shows(Pending, "")
	s.Apply(Gated{At: now, Island: "a", Incarnation: 1, Outcome: TurnedBack, Reason: "tensor x is off"})
	s.Apply(IslandGone{At: now, Island: "a", Incarnation: 1, Kind: TurnedAway, Reason: "tensor x is off"})
	shows(TurnedBack, "tensor x is off")
	s.Apply(IslandStarted{At: now, Island: "a", Incarnation: 2, Restart: true})
	shows(Pending, "tensor x is off")
	s.Apply(Gated{At: now, Island: "a", Incarnation: 2, Outcome: "passed", Reason: "the same model"})
	shows("passed", "the same model")
	s.Apply(Gated{At: now, Island: "a", Incarnation: 1, Outcome: TurnedBack, Reason: "late"})
	shows("passed", "the same model")
	s.Apply(IslandStarted{At: now, Island: "a", Incarnation: 3, Restart: true})
	shows(Pending, "")
	own := Gated{At: now, Island: "a", Incarnation: 3, Outcome: LetIn, Reason: "this program", Own: true}
	s.Apply(own)
	shows(LetIn, "this program")
	if Notable(own) || !Notable(Gated{Outcome: LetIn}) {
		t.Error("a line is worth what was not compared, unless it is this program")
	}
}

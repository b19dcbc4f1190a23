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

// What a trainer computes in is what it declares at the gate, in this life; before, or where it
// has said nothing, nobody knows. It is never taken for fp32, which the native engine is.
func TestNumberFormatOfATrainer(t *testing.T) {
	now := time.Unix(0, 0)
	s := fold(RunStarted{At: now, Islands: []string{"own", "trainer"}})
	shows := func(want ...string) {
		t.Helper()
		for i, sum := range s.Summary().Islands {
			got := "unknown"
			if sum.Numeric != nil {
				got = *sum.Numeric
			}
			if got != want[i] {
				t.Errorf("%s computes in %s, want %s", sum.Name, got, want[i])
			}
		}
	}
	shows("unknown", "unknown")
	s.Apply(IslandStarted{At: now, Island: "own", Incarnation: 1})
	s.Apply(IslandStarted{At: now, Island: "trainer", Incarnation: 2, Engine: "external"})
	shows("fp32", "unknown")
	s.Apply(Gated{At: now, Island: "own", Incarnation: 1, Outcome: LetIn})
	s.Apply(Gated{At: now, Island: "trainer", Incarnation: 2, Outcome: "passed", Declared: "bf16"})
	shows("fp32", "bf16")
	s.Apply(IslandReady{At: now, Island: "trainer", Incarnation: 2, Engine: "torch"})
	shows("fp32", "bf16")
	s.Apply(IslandStarted{At: now, Island: "trainer", Incarnation: 3, Engine: "external", Restart: true})
	shows("fp32", "unknown")
	s.Apply(Gated{At: now, Island: "trainer", Incarnation: 3, Outcome: LetIn})
	shows("fp32", "unknown")
}

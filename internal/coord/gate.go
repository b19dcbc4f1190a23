package coord

import (
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/gate"
)

// GateTries is how often an island is turned away at the gate before it is not started,
// nor let in under its name, again in this era: its arithmetic does not mend itself.
const GateTries = 3

// GateOutcome is what became of an island at the gate.
type GateOutcome string

// The outcomes.
const (
	GatePassed   GateOutcome = "passed"
	GateRefused  GateOutcome = "refused"
	GateSkipped  GateOutcome = "skipped"  // nobody asked it
	GateRecorded GateOutcome = "recorded" // its answer is the record that later islands are compared with
)

// Gated: what came out at the gate for a joined island. Only then is it seeded, or
// turned away.
type Gated struct {
	Incarnation uint64
	Outcome     GateOutcome
	Why         string
	Checkpoint  uint64        // whose weights the probe was made on; 0: the run's first
	Declared    string        // number format that it says it computes in; empty: it was not asked, or has not said
	Verdict     *gate.Verdict // figures; nil: nothing was compared
}

// Unanswered: not every host of an island has answered at the gate yet; Why says which.
type Unanswered struct {
	Incarnation uint64
	Why         string
}

// Let lets an island pass the gate: the syncer seeds it.
type Let struct {
	Incarnation uint64
	Outcome     GateOutcome
	Why         string
}

// GateRecord: an island came to the gate.
type GateRecord struct {
	Kind        string        `json:"kind"` // "gate"
	At          time.Time     `json:"at"`
	Incarnation uint64        `json:"incarnation"`
	Island      string        `json:"island"`
	Outcome     GateOutcome   `json:"outcome"`
	Why         string        `json:"why"`
	Checkpoint  uint64        `json:"checkpoint"`
	Declared    string        `json:"number_format,omitempty"`
	Verdict     *gate.Verdict `json:"verdict,omitempty"`
}

func (Gated) isInput()      {}
func (Unanswered) isInput() {}
func (Let) isEffect()       {}

// gated lets a joined member pass, or ends it.
func (s *State) gated(m *member, in Gated, now time.Time) ([]Effect, string) {
	if m.phase != joined || m.gated {
		return nil, ""
	}
	record := Record{GateRecord{"gate", now, m.incarnation, m.island, in.Outcome, in.Why, in.Checkpoint, in.Declared, in.Verdict}}
	if in.Outcome != GateRefused {
		m.gated = true
		return []Effect{record, Let{m.incarnation, in.Outcome, in.Why}}, fmt.Sprintf("%s at the gate: %s", m.island, in.Outcome)
	}
	sl, why := s.slots[m.island], in.Why
	if sl.refused++; sl.refused >= GateTries {
		sl.shut, sl.why = true, in.Why
		why += fmt.Sprintf("; refused %d times, it is not let in again", sl.refused)
	}
	effects, reason := s.end(m, "refused", why)
	return append([]Effect{record}, effects...), reason
}

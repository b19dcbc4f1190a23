package ledger

import (
	"fmt"
	"time"
)

// Gated: an island came to the gate at the door, and it is on the tape.
type Gated struct {
	At           time.Time
	Island       string
	Incarnation  uint64
	Outcome      string // passed, refused, skipped or recorded
	Reason       string
	Declared     string // number format that it says it computes in; empty: not said
	OtherChoices Value  // share of experts that it would have chosen otherwise
	Own          bool   // not asked, for it is this very program: nothing that is worth a line
}

// Pending is the outcome at the gate of an island that nothing was decided about yet.
const Pending = "pending"

// TurnedBack and LetIn are outcomes that somebody may want to know the reason of.
const (
	TurnedBack = "refused"
	LetIn      = "skipped" // nothing was compared
)

// gate is what was decided, nil where there was nothing to decide about.
func (i *Island) gate() *string {
	if i.Gate == "" {
		return nil
	}
	text := i.Gate
	return &text
}

// gated notes what was decided about an incarnation.
func (i *Island) gated(e Gated) {
	if e.Incarnation >= i.incarnation {
		i.enter(e.Incarnation)
		i.Gate, i.GateReason, i.Declared = e.Outcome, e.Reason, e.Declared
	}
}

func (e Gated) when() time.Time { return e.At }

func (e Gated) String() string {
	out := fmt.Sprintf("gate: island %s %s%s", e.Island, e.Outcome, because(e.Reason))
	if share, known := e.OtherChoices.Get(); known && share > 0 {
		out += fmt.Sprintf("; %.2g %% of its experts chosen otherwise", 100*share)
	}
	return out
}

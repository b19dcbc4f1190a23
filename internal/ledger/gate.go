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
	OtherChoices Value // share of experts that it would have chosen otherwise
}

func (e Gated) when() time.Time { return e.At }

func (e Gated) String() string {
	out := fmt.Sprintf("gate: island %s %s%s", e.Island, e.Outcome, because(e.Reason))
	if share, known := e.OtherChoices.Get(); known && share > 0 {
		out += fmt.Sprintf("; %.2g %% of its experts chosen otherwise", 100*share)
	}
	return out
}

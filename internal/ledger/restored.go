package ledger

import (
	"fmt"
	"time"
)

// NotRestored: nobody has taken over an island's saved state, and it is on the tape.
type NotRestored struct {
	At          time.Time
	Island      string
	Incarnation uint64
	Offers      int // incarnations that were to
	Reason      string
}

func (e NotRestored) when() time.Time { return e.At }

func (e NotRestored) String() string {
	tries := "at the first try"
	if e.Offers > 1 {
		tries = fmt.Sprintf("in %d tries", e.Offers)
	}
	return fmt.Sprintf("island %s begins from the model: its saved state was not taken over %s%s", e.Island, tries, because(e.Reason))
}

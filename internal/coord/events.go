package coord

import (
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/spike"
)

// Input is one thing that happened.
type Input interface{ isInput() }

// Range is the samples From <= n < To. Due is not 0 for those of a step that was withheld:
// they go out again once every new sample below it has, or no new one is left.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Due  int64 `json:"due,omitempty"`
}

// String is FROM..TO, and @DUE for a second try.
func (r Range) String() string {
	if r.Retry() {
		return fmt.Sprintf("%d..%d@%d", r.From, r.To, r.Due)
	}
	return fmt.Sprintf("%d..%d", r.From, r.To)
}

// Retry says whether a step of them was withheld before.
func (r Range) Retry() bool { return r.Due > 0 }

// Len is the number of samples.
func (r Range) Len() int64 { return r.To - r.From }

// The inputs. Incarnation always names the speaker's life.
type (
	// Start opens the era: every island of the run is launched.
	Start struct{}
	// Joined: a process said Hello, for the first time or after its stream broke.
	Joined struct {
		Incarnation uint64
		Island      string
	}
	// Ready: it has installed every fragment.
	Ready struct{ Incarnation uint64 }
	// Progress: after an inner step, or a heartbeat (Step unchanged). Waiting says
	// why it does not step; empty while it trains. A step took StepSeconds > 0.
	Progress struct {
		Incarnation uint64
		Step        uint64
		Position    int64 // samples
		StepSeconds float64
		Waiting     string
	}
	// Spiked: its spike rule has decided about an inner step of Samples samples from
	// Position on. What is not a number there is NaN here.
	Spiked struct {
		Incarnation               uint64
		Step                      uint64
		Position, Samples         int64
		Verdict                   spike.Verdict
		Retry, Finite             bool
		Loss, Norm, Median, Bound float64
		Reason                    string
	}
	// WantsWork: its lease is used up.
	WantsWork struct{ Incarnation uint64 }
	// Idle: lease used up, everything flushed and answered. Position is what it has trained.
	Idle struct {
		Incarnation uint64
		Position    int64 // samples
	}
	// Left: it flushed and leaves by its own wish.
	Left struct {
		Incarnation uint64
		Why         string
	}
	// Exited: its process has ended. Disconnected: its stream broke.
	Exited struct {
		Incarnation uint64
		Why         string
	}
	Disconnected struct{ Incarnation uint64 }
	// Consumed: the syncer committed a contribution. Position is the highest over
	// fragments, Answered the lowest position with a verdict over fragments (samples).
	Consumed struct {
		Incarnation        uint64
		Position, Answered int64
	}
	// ClosedAt: every group has recorded the end of the incarnation; samples up to
	// Position are in the model.
	ClosedAt struct {
		Incarnation uint64
		Position    int64
	}
	// Quarantine: too many refused contributions.
	Quarantine struct {
		Incarnation uint64
		Why         string
	}
	// Quiet: the exchange has come to rest after PauseExchange.
	Quiet struct{}
	// Captured: an island saved its own state (or could not, with OK false).
	Captured struct {
		Incarnation uint64
		Checkpoint  uint64
		OK          bool
		Position    int64 // samples
	}
	// CutTaken: the syncer's state and this State were copied for the checkpoint.
	CutTaken struct{ Checkpoint uint64 }
	// Saved: the checkpoint's manifest is written.
	Saved struct{ Checkpoint uint64 }
	// SaveFailed: it could not be written, and trying again is of no use.
	SaveFailed struct {
		Checkpoint uint64
		Why        string
	}
	// Interrupt: the user wants to stop in an orderly way.
	Interrupt struct{}
	// Tick lets time pass.
	Tick struct{}
)

func (Start) isInput()        {}
func (Joined) isInput()       {}
func (Ready) isInput()        {}
func (Progress) isInput()     {}
func (Spiked) isInput()       {}
func (WantsWork) isInput()    {}
func (Idle) isInput()         {}
func (Left) isInput()         {}
func (Exited) isInput()       {}
func (Disconnected) isInput() {}
func (Consumed) isInput()     {}
func (ClosedAt) isInput()     {}
func (Quarantine) isInput()   {}
func (Quiet) isInput()        {}
func (Captured) isInput()     {}
func (CutTaken) isInput()     {}
func (Saved) isInput()        {}
func (SaveFailed) isInput()   {}
func (Interrupt) isInput()    {}
func (Tick) isInput()         {}

// Effect is one thing to do. Effects are carried out in order; a Record is
// durable before the effects behind it.
type Effect interface{ isEffect() }

// The effects.
type (
	// Launch starts a process for the island under a new incarnation.
	Launch struct {
		Incarnation uint64
		Island      string
		Restart     bool
	}
	// Admit lets a joined process in; the syncer seeds it. Restored: it takes over its
	// island's state from the checkpoint. Nobody else may: its lease begins with what
	// that state has trained.
	Admit struct {
		Incarnation uint64
		Restored    bool
	}
	// Expel refuses a process or ends its session, and kills it.
	Expel struct {
		Incarnation uint64
		Why         string
	}
	// Recall ends an incarnation whose island, or the trainer of it, may come back as the next one.
	Recall struct {
		Incarnation uint64
		Why         string
	}
	// Withdraw ends the offer of a saved state: the incarnation has it.
	Withdraw struct {
		Incarnation uint64
		Island      string
	}
	// Grant adds samples to its lease. From is the position of the first of them:
	// how many samples it was given before.
	Grant struct {
		Incarnation uint64
		From        int64
		Ranges      []Range
	}
	// Regrant repeats the end of its lease, beginning at position From, for one whose
	// stream broke and who may have missed a Grant. What it holds already it ignores.
	// The syncer repeats its calls, too (syncer.Back).
	Regrant struct {
		Incarnation uint64
		From        int64
		Ranges      []Range
	}
	// NoWork: nothing to hand out; it flushes when its lease is used up.
	NoWork struct{ Incarnation uint64 }
	// Revoke takes back what it has not trained; it flushes.
	Revoke struct{ Incarnation uint64 }
	// Close asks every group to record the end of the incarnation.
	Close struct {
		Incarnation uint64
		Why         string
	}
	// Record goes onto the coordinator's tape.
	Record struct{ Record any }
	// PauseExchange, Capture, Cut, ResumeExchange and Save are the steps of a checkpoint.
	PauseExchange struct{}
	Capture       struct {
		Incarnation uint64
		Checkpoint  uint64
	}
	Cut            struct{ Checkpoint uint64 }
	ResumeExchange struct{}
	// Save writes what was copied for the checkpoint. Its record is on the tape then:
	// a checkpoint that can be found has all that led to it on the tape. Answer with
	// Saved or SaveFailed.
	Save struct{ Checkpoint uint64 }
	// Gone reports the end of an incarnation: left, died, quarantined or finished.
	Gone struct {
		Incarnation uint64
		Island      string
		Kind, Why   string
	}
	// Dismiss tells an idle member that the run is over.
	Dismiss struct{ Incarnation uint64 }
	// Done ends the run.
	Done struct {
		Outcome Outcome
		Why     string
	}
)

func (Launch) isEffect()         {}
func (Admit) isEffect()          {}
func (Expel) isEffect()          {}
func (Recall) isEffect()         {}
func (Withdraw) isEffect()       {}
func (Grant) isEffect()          {}
func (Regrant) isEffect()        {}
func (NoWork) isEffect()         {}
func (Revoke) isEffect()         {}
func (Close) isEffect()          {}
func (Record) isEffect()         {}
func (PauseExchange) isEffect()  {}
func (Capture) isEffect()        {}
func (Cut) isEffect()            {}
func (ResumeExchange) isEffect() {}
func (Save) isEffect()           {}
func (Gone) isEffect()           {}
func (Dismiss) isEffect()        {}
func (Done) isEffect()           {}

// Outcome says how a run ended.
type Outcome string

// The outcomes.
const (
	Finished    Outcome = "finished"
	Interrupted Outcome = "interrupted"
	Failed      Outcome = "failed"
	RolledBack  Outcome = "rolled back" // the era; the run goes on from its last checkpoint
)

// Records of the coordinator's tape. Kind is always the record's first field.
type (
	// LaunchRecord: an incarnation begins.
	LaunchRecord struct {
		Kind        string    `json:"kind"` // "launch"
		At          time.Time `json:"at"`
		Incarnation uint64    `json:"incarnation"`
		Island      string    `json:"island"`
		Base        int64     `json:"base,omitempty"`     // position of the first sample of Leases
		Leases      []Range   `json:"leases,omitempty"`   // taken over from a saved state
		Position    int64     `json:"position,omitempty"` // up to which they are trained
	}
	// LeaseRecord: samples handed to an incarnation, behind those it has.
	LeaseRecord struct {
		Kind        string    `json:"kind"` // "lease"
		At          time.Time `json:"at"`
		Incarnation uint64    `json:"incarnation"`
		Ranges      []Range   `json:"ranges"`
	}
	// CloseRecord: an incarnation is over; Returned goes back to the pool.
	CloseRecord struct {
		Kind        string    `json:"kind"` // "close"
		At          time.Time `json:"at"`
		Incarnation uint64    `json:"incarnation"`
		Island      string    `json:"island"`
		How         string    `json:"how"`
		Why         string    `json:"why"`
		Position    int64     `json:"position"` // samples that are in the model
		Returned    []Range   `json:"returned"`
	}
	// CheckpointRecord: a checkpoint was cut here.
	CheckpointRecord struct {
		Kind       string    `json:"kind"` // "checkpoint"
		At         time.Time `json:"at"`
		Checkpoint uint64    `json:"checkpoint"`
		Consumed   int64     `json:"consumed_samples"`
	}
	// EndRecord: the run is over in this era.
	EndRecord struct {
		Kind    string    `json:"kind"` // "end"
		At      time.Time `json:"at"`
		Outcome Outcome   `json:"outcome"`
		Why     string    `json:"why"`
	}
)

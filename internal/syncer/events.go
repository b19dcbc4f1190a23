package syncer

import "time"

// Config is what the syncer needs to know of a run.
type Config struct {
	Era           uint32
	View          uint64
	Fragments     int
	PeriodTokens  int64         // fleet tokens between two exchanges of one fragment
	Quorum        int           // contributions that a merge needs at least (or all live learners)
	MaxWait       time.Duration // a round waits for late contributions no longer
	StaleVersions uint64        // a contribution whose base is further behind is dropped
	RefusalLimit  int           // refusals within RefusalWindow contributions: quarantine
	RefusalWindow int
}

// Adoption says at which inner step a learner adopted which version.
type Adoption struct {
	Fragment int    `json:"fragment"`
	Version  uint64 `json:"version"`
	Step     uint64 `json:"step"`
}

// Contribution describes one learner's pseudo-gradient for one fragment.
type Contribution struct {
	Era          uint32
	Incarnation  uint64
	Fragment     int
	Sequence     uint64
	Base         uint64 // version of its anchor
	FromStep     uint64
	ToStep       uint64
	FromPosition int64 // samples, in lease order
	ToPosition   int64
	Tokens       int64
	Withheld     int64 // samples of its span in steps that were not applied
	Adoptions    []Adoption
	Flush        bool
	Damaged      bool   // its digest does not match: to be sent again
	Defect       string // what is wrong with its payload; empty when nothing is
}

// Input is one thing that happened.
type Input interface{ isInput() }

// The inputs.
type (
	// Join: the learner is seeded and trains from now on. Tokens it counts as
	// trained already, and by fragment the positions that are merged, come from a
	// checkpoint (nil: all zero).
	Join struct {
		Incarnation uint64
		Island      string
		Tokens      int64
		Positions   []int64 // samples
	}
	// Progress: tokens the learner has trained in this incarnation.
	Progress struct {
		Incarnation uint64
		Tokens      int64
	}
	// Back: its stream broke and is there again.
	Back struct{ Incarnation uint64 }
	// Arrived: a whole contribution has come in.
	Arrived struct{ Contribution Contribution }
	// Passed: the learner has nothing for this round.
	Passed struct {
		Incarnation uint64
		Fragment    int
		Round       uint64
	}
	// Close: the coordinator ends an incarnation.
	Close struct{ Incarnation uint64 }
	// Merged: the merge asked for is computed but not yet visible.
	Merged struct {
		Finite bool
		Digest string  // SHA-256 of the new parameters and momentum, hex
		Norm   float64 // L2 norm of the merged pseudo-gradient before the share
	}
	// Committed: the record asked for is on the tape.
	Committed struct{}
	// Pause, Resume: rest of the exchange around a checkpoint.
	Pause  struct{}
	Resume struct{}
	// TakeCut: copy everything for a checkpoint, between two commits.
	TakeCut struct{ Checkpoint uint64 }
	// Tick lets time pass.
	Tick struct{}
)

func (Join) isInput()      {}
func (Progress) isInput()  {}
func (Back) isInput()      {}
func (Arrived) isInput()   {}
func (Passed) isInput()    {}
func (Close) isInput()     {}
func (Merged) isInput()    {}
func (Committed) isInput() {}
func (Pause) isInput()     {}
func (Resume) isInput()    {}
func (TakeCut) isInput()   {}
func (Tick) isInput()      {}

// Ruling is the answer to a contribution.
type Ruling string

// The rulings.
const (
	RuledMerged  Ruling = "merged"
	RuledDropped Ruling = "dropped"
	RuledRefused Ruling = "refused"
	RuledResend  Ruling = "resend"
)

// Key names one contribution.
type Key struct {
	Incarnation uint64
	Fragment    int
	Sequence    uint64
}

// Effect is one thing to do, in order.
type Effect interface{ isEffect() }

// The effects.
type (
	// Call asks a learner for its contribution at its next step boundary.
	Call struct {
		Incarnation uint64
		Fragment    int
		Round       uint64
	}
	// Merge computes the next version of a fragment from the contributions, in
	// this order, without making it visible. Answer with Merged.
	Merge struct {
		Fragment int
		Keys     []Key
		Share    float64
	}
	// Commit creates the next object of the group's tape. Answer with Committed.
	Commit struct{ Records []any }
	// Install makes the computed merge the fragment's value.
	Install struct {
		Fragment int
		Version  uint64
		Stamp    int64
		Islands  []string
		Tokens   int64
		Share    float64
	}
	// Answer tells the learner its verdict; merged and dropped carry the fragment.
	Answer struct {
		Key    Key
		Ruling Ruling
		Reason string
	}
	// Discard forgets a payload.
	Discard struct{ Key Key }
	// Reseed sends every fragment to the learner.
	Reseed struct{ Incarnation uint64 }
	// Expel ends the session of an incarnation that is not live here.
	Expel struct {
		Incarnation uint64
		Why         string
	}
	// Consumed tells the coordinator how far a learner's samples are in the model.
	Consumed struct {
		Incarnation        uint64
		Position, Answered int64
	}
	// ClosedAt tells the coordinator that the end of an incarnation is on the tape.
	ClosedAt struct {
		Incarnation uint64
		Position    int64
	}
	// Quarantine tells the coordinator to shut an island out.
	Quarantine struct {
		Incarnation uint64
		Why         string
	}
	// Quiet: paused and nothing is under way.
	Quiet struct{}
	// Cut: copy parameters, momentum and Tables now.
	Cut struct {
		Checkpoint uint64
		Tables     Tables
	}
)

func (Call) isEffect()       {}
func (Merge) isEffect()      {}
func (Commit) isEffect()     {}
func (Install) isEffect()    {}
func (Answer) isEffect()     {}
func (Discard) isEffect()    {}
func (Reseed) isEffect()     {}
func (Expel) isEffect()      {}
func (Consumed) isEffect()   {}
func (ClosedAt) isEffect()   {}
func (Quarantine) isEffect() {}
func (Quiet) isEffect()      {}
func (Cut) isEffect()        {}

// Records of a group's tape. Kind is always the first field.
type (
	// PartRecord is one contribution inside a merge.
	PartRecord struct {
		Island       string     `json:"island"`
		Incarnation  uint64     `json:"incarnation"`
		Sequence     uint64     `json:"sequence"`
		Base         uint64     `json:"base_version"`
		FromStep     uint64     `json:"from_step"`
		ToStep       uint64     `json:"to_step"`
		FromPosition int64      `json:"from_sample_position"`
		ToPosition   int64      `json:"to_sample_position"`
		Tokens       int64      `json:"tokens"`
		Withheld     int64      `json:"withheld_samples,omitempty"`
		Adoptions    []Adoption `json:"adoptions,omitempty"`
	}
	// MergeRecord is the commit of one merge.
	MergeRecord struct {
		Kind     string       `json:"kind"` // "merge"
		At       time.Time    `json:"at"`
		Era      uint32       `json:"era"`
		View     uint64       `json:"view"`
		Fragment int          `json:"fragment"`
		Version  uint64       `json:"version"`
		Stamp    int64        `json:"stamp_tokens"`
		Share    float64      `json:"share"`
		Norm     float64      `json:"pseudo_gradient_norm"`
		Digest   string       `json:"digest"`
		Live     []string     `json:"live"`
		Parts    []PartRecord `json:"parts"`
	}
	// RulingRecord: a contribution that was not merged.
	RulingRecord struct {
		Kind     string     `json:"kind"` // "dropped" or "refused"
		At       time.Time  `json:"at"`
		Fragment int        `json:"fragment"`
		Version  uint64     `json:"version"`
		Reason   string     `json:"reason"`
		Part     PartRecord `json:"part"`
	}
	// ClosedRecord: no contribution of this incarnation is merged after it.
	ClosedRecord struct {
		Kind        string    `json:"kind"` // "incarnation_closed"
		At          time.Time `json:"at"`
		Incarnation uint64    `json:"incarnation"`
		Island      string    `json:"island"`
		Position    int64     `json:"sample_position"` // highest over fragments
		Positions   []int64   `json:"sample_positions"`
	}
)

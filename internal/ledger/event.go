package ledger

import (
	"fmt"
	"strings"
	"time"
)

// Event is one thing that happened in a run. String is one line for a person.
type Event interface {
	String() string
	when() time.Time
}

// RunStarted opens the stream.
type RunStarted struct {
	At                      time.Time
	RunID, Dir              string
	Era                     uint32
	Tokens                  int64 // goal
	TokensDone              int64 // committed before, by earlier eras
	Params, ActiveParams    int64 // of the model, and those that a token meets; 0: not known
	Islands                 []string
	Outside                 bool // islands join from elsewhere
	Resumed                 bool
	Checkpoint              string  // path of the one that it goes on from; empty: from the beginning
	BigramNats, TrigramNats float64 // cross-entropy of the held-out text, per token
	OwnData                 bool    // islands bring their own: which samples are in the model is not tracked (S2)
	Rollbacks               int     // before
	Skipped                 []Samples
}

// Samples are the training samples From <= n < To of the run.
type Samples struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// IslandStarted: a process was started for the island.
type IslandStarted struct {
	At          time.Time
	Island      string
	Incarnation uint64
	Restart     bool
	Numeric     string // what it emulates, "emulated" and the profile; empty: nothing
	From        string // network address that it came from; empty: it was started here
	Engine      string // that trains in it; empty: not said
	Device      string // that it computes on, as it says; empty: not said
	Ranks       int    // processes that compute together; 0: not said
}

// IslandReady: the island holds the model and begins to train. Steps and Tokens are
// what its counters begin with: 0, or where a restored state left off.
type IslandReady struct {
	At            time.Time
	Island        string
	Incarnation   uint64
	Steps, Tokens uint64
	Engine        string // that trains in it; empty: as it started
	Device        string // that it computes on, as it says; empty: as it started
	Ranks         int    // processes that compute together; 0: as it started
}

// Departure is how an island's incarnation ended.
type Departure string

// The ways to go.
const (
	Left        Departure = "left"        // it said so
	Died        Departure = "died"        // gone, silent or stalled
	Quarantined Departure = "quarantined" // refused too often
	TurnedAway  Departure = "refused"     // at the gate: it does not compute the run's model
	Finished    Departure = "finished"    // the pool is dry, everything is flushed
	GivenUp     Departure = "given up"    // too many starts in a row that brought nothing into the model
)

// IslandGone: the incarnation is closed.
type IslandGone struct {
	At          time.Time
	Island      string
	Incarnation uint64
	Reason      string
	Kind        Departure
}

// StepDone is one inner step of an island.
type StepDone struct {
	At                     time.Time
	Island                 string
	Incarnation            uint64
	Step, Position, Tokens uint64  // of this incarnation so far, on top of what IslandReady said
	Loss                   float64 // mean of the step, nats per token; NaN when non-finite
	GradientNorm           float64 // before clipping; below 0: not known
	ExpertLoad             float64 // busiest expert over mean, worst layer; 0: not known, or no experts
	Rate                   float64 // learning rate; below 0: not known
	StepSeconds            float64 // pacing included
	BusySeconds            float64 // of them, without waiting for others inside the island; 0: unknown
	SkippedSteps           uint64  // not applied, of this incarnation so far
}

// SpikeVerdict is what became of a step that the spike rule stopped at.
type SpikeVerdict string

// The verdicts.
const (
	Withheld SpikeVerdict = "withheld"  // not applied; its samples are drawn again later, once
	HalfRate SpikeVerdict = "half_rate" // the second try is applied at half the rate
	Skipped  SpikeVerdict = "skipped"   // the second try is not finite either; its samples are left out
)

// Spiked: the spike rule has decided about an inner step, and it is on the tape.
type Spiked struct {
	At                  time.Time
	Island              string
	Step                uint64
	Verdict             SpikeVerdict
	Samples             []Samples
	Loss, Median, Bound Value // unknown: not finite, or not judged
	Reason              string
}

// RolledBack: the run goes on from a checkpoint, in a new era.
type RolledBack struct {
	At         time.Time
	Era        uint32
	Rollbacks  int // of the run, with this one
	Reason     string
	Checkpoint string    // path; empty: from the beginning
	Tokens     int64     // committed there
	Skipped    []Samples // that the run leaves out from here on
}

// Merged: a merge of one fragment is committed.
type Merged struct {
	At          time.Time
	Fragment    int
	Version     uint64
	Islands     []string
	Tokens      int64 // of this merge
	StampTokens int64 // committed into the fragment so far
	Share       float64
}

// Ruling is the verdict on a contribution that was not merged.
type Ruling string

// The rulings that leave a contribution out.
const (
	Dropped Ruling = "dropped" // too old; the learner adopts
	Refused Ruling = "refused" // unusable; the learner is re-seeded
)

// Ruled: a contribution was not merged.
type Ruled struct {
	At       time.Time
	Island   string
	Fragment int
	Ruling   Ruling
	Reason   string
}

// Consumed is the run's progress: tokens whose training is committed, all eras.
type Consumed struct {
	At     time.Time
	Tokens int64
}

// Evaluated is a validation loss.
type Evaluated struct {
	At     time.Time
	Tokens int64
	Loss   float64 // nats per token
	Island string  // that measured it; empty: the run itself, on its held-out text
	Final  bool    // of the finished model; the last one of an interrupted run is not
}

// CheckpointSaved: a checkpoint is whole.
type CheckpointSaved struct {
	At     time.Time
	Number uint64
	Path   string
	Tokens int64
}

// CheckpointHeld: a save waits or was refused; the newest one stays.
type CheckpointHeld struct {
	At     time.Time
	Reason string
}

// StorePaused: merges wait for the store. An empty Reason ends the pause.
type StorePaused struct {
	At     time.Time
	Reason string
}

// Note is anything else that is worth a line.
type Note struct {
	At   time.Time
	Text string
}

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	RunFinished    Outcome = "finished"
	RunInterrupted Outcome = "interrupted"
	RunFailed      Outcome = "failed"
	RunUnknown     Outcome = "unknown" // nobody has said
)

// RunEnded closes the stream.
type RunEnded struct {
	At      time.Time
	Outcome Outcome
	Reason  string
}

func (e RunStarted) when() time.Time      { return e.At }
func (e IslandStarted) when() time.Time   { return e.At }
func (e IslandReady) when() time.Time     { return e.At }
func (e IslandGone) when() time.Time      { return e.At }
func (e StepDone) when() time.Time        { return e.At }
func (e Spiked) when() time.Time          { return e.At }
func (e RolledBack) when() time.Time      { return e.At }
func (e Merged) when() time.Time          { return e.At }
func (e Ruled) when() time.Time           { return e.At }
func (e Consumed) when() time.Time        { return e.At }
func (e Evaluated) when() time.Time       { return e.At }
func (e CheckpointSaved) when() time.Time { return e.At }
func (e CheckpointHeld) when() time.Time  { return e.At }
func (e StorePaused) when() time.Time     { return e.At }
func (e Note) when() time.Time            { return e.At }
func (e RunEnded) when() time.Time        { return e.At }

// String is one line for a person.
func (e RunStarted) String() string {
	verb := "run"
	if e.Resumed {
		verb = "resumed run"
	}
	active := ""
	if e.ActiveParams > 0 {
		active = fmt.Sprintf(" (%s active)", Amount(float64(e.ActiveParams)))
	}
	out := fmt.Sprintf("%s %s in %s: %s tokens, %s parameters%s, %s",
		verb, e.RunID, e.Dir, Amount(float64(e.Tokens)), Amount(float64(e.Params)), active, crew(e.Islands))
	if e.OwnData {
		out += ", each with its own data (S2 not tracked)"
	}
	return out
}

func (e IslandStarted) String() string {
	what := ""
	if e.Numeric != "" {
		what = ", " + e.Numeric
	}
	verb := "started"
	if e.From != "" {
		verb, what = "joined", what+" from "+e.From
	}
	if e.Restart {
		return fmt.Sprintf("island %s %s again (incarnation %d)%s", e.Island, verb, e.Incarnation, what)
	}
	return fmt.Sprintf("island %s %s%s", e.Island, verb, what)
}

func (e IslandReady) String() string { return fmt.Sprintf("island %s trains", e.Island) }

func (e IslandGone) String() string {
	return fmt.Sprintf("island %s %s%s", e.Island, e.Kind, because(e.Reason))
}

func (e StepDone) String() string {
	return fmt.Sprintf("island %s step %d: loss %s, gradient norm %s, expert load %s",
		e.Island, e.Step, Known(e.Loss).Text(4), told(e.GradientNorm).Text(3), entropy(e.ExpertLoad).Text(2))
}

func (e Spiked) String() string {
	out := fmt.Sprintf("spike: island %s step %d: %s", e.Island, e.Step, e.Reason)
	if _, judged := e.Bound.Get(); judged {
		out = fmt.Sprintf("spike: island %s step %d: loss %s (median %s, bound %s)", e.Island, e.Step, e.Loss.Text(3), e.Median.Text(3), e.Bound.Text(3))
	}
	n := count(e.Samples)
	switch e.Verdict {
	case Withheld:
		return fmt.Sprintf("%s: withheld, %d samples drawn again later", out, n)
	case HalfRate:
		return out + ": second try, applied at half the rate"
	default:
		return fmt.Sprintf("%s: second try, %d samples left out", out, n)
	}
}

func (e RolledBack) String() string {
	from := "the beginning"
	if e.Checkpoint != "" {
		from = e.Checkpoint
	}
	return fmt.Sprintf("back to %s (%s tokens), %d samples left out: %s", from, Amount(float64(e.Tokens)), count(e.Skipped), e.Reason)
}

// count is the number of samples.
func count(samples []Samples) (n int64) {
	for _, s := range samples {
		n += s.To - s.From
	}
	return n
}

func (e Merged) String() string {
	return fmt.Sprintf("fragment %d version %d: merged %s tokens of %s, share %.2f",
		e.Fragment, e.Version, Amount(float64(e.Tokens)), strings.Join(e.Islands, ", "), e.Share)
}

func (e Ruled) String() string {
	return fmt.Sprintf("island %s: contribution to fragment %d %s%s", e.Island, e.Fragment, e.Ruling, because(e.Reason))
}

func (e Consumed) String() string {
	return fmt.Sprintf("%s tokens committed", Amount(float64(e.Tokens)))
}

func (e Evaluated) String() string {
	what := "validation loss"
	if e.Final {
		what = "final validation loss"
	}
	by := ""
	if e.Island != "" {
		by = " by " + e.Island
	}
	return fmt.Sprintf("%s %s at %s tokens%s", what, Known(e.Loss).Text(4), Amount(float64(e.Tokens)), by)
}

func (e CheckpointSaved) String() string {
	return fmt.Sprintf("checkpoint %s at %s tokens", e.Path, Amount(float64(e.Tokens)))
}

func (e CheckpointHeld) String() string { return "checkpoint held back" + because(e.Reason) }

func (e StorePaused) String() string {
	if e.Reason == "" {
		return "merges go on"
	}
	return "merges pause" + because(e.Reason)
}

func (e Note) String() string { return e.Text }

func (e RunEnded) String() string { return fmt.Sprintf("run %s%s", e.Outcome, because(e.Reason)) }

// crew names islands as long as they are few.
func crew(islands []string) string {
	if len(islands) == 0 {
		return "islands join from outside"
	}
	const few = 4
	if len(islands) > few {
		return fmt.Sprintf("%d islands", len(islands))
	}
	return "islands " + strings.Join(islands, ", ")
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

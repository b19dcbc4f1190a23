package ledger

import (
	"cmp"
	"time"
)

// What trains in an island and in what it computes, where nothing else is said.
const (
	native = "native"
	fp32   = "fp32"
)

// State is what an island does.
type State string

// The states of an island.
const (
	Awaited  State = "awaited"  // it has not come yet
	Starting State = "starting" // its process runs, the model is on its way
	Training State = "training"
	Away     State = "away" // gone for now or for good: Reason says why
	Done     State = "done" // nothing is left to train
)

// Island is the state of one island over all its incarnations in this era.
type Island struct {
	Name       string
	State      State
	Reason     string // of the last departure
	Restarts   int
	Unrestored string // why nobody has taken over its saved state; empty: somebody has, or there was none
	Gate       string // what was decided about it at the gate, or Pending; empty: it has not come
	GateReason string // of the last decision
	Numeric    string // what it emulates; empty: nothing
	Declared   string // number format that a trainer says it computes in; empty: not said
	Engine     string // that trains in it; empty: the native one
	Device     string // that it computes on; empty: not said
	Ranks      int    // processes that compute together; 0: not said
	From       string // network address that it came from; empty: it was started here

	Tokens  int64 // trained
	Steps   int64 // inner steps
	Dropped int
	Refused int

	Loss         Value // of the last step
	GradientNorm Value
	ExpertLoad   Value
	Rate         Value // learning rate

	incarnation uint64
	inLife      StepDone  // last step of this incarnation
	since       time.Time // first start of training
	last        time.Time // last step
	meter       meter
	lately      []Worked // the last steps of this incarnation, oldest first
}

// numeric says what the island computes in, nil while nobody knows. Of a trainer it is what it
// declares at the gate.
func (i *Island) numeric() *string {
	text := i.Declared
	if i.engine() == native {
		text = cmp.Or(i.Numeric, fp32)
	}
	if i.incarnation == 0 || text == "" {
		return nil
	}
	return &text
}

func (i *Island) start(e IslandStarted) {
	i.State, i.Numeric, i.Engine, i.Device, i.From, i.Declared = Starting, e.Numeric, e.Engine, e.Device, e.From, ""
	i.Ranks = e.Ranks
	if i.Gate != TurnedBack { // why it was is worth to be known until there is another word
		i.GateReason = ""
	}
	i.Gate = Pending
	if e.Restart {
		i.Restarts++
	}
	i.enter(e.Incarnation)
}

func (i *Island) ready(e IslandReady) {
	i.enter(e.Incarnation)
	i.State, i.Reason = Training, ""
	i.Engine, i.Device = cmp.Or(e.Engine, i.Engine), cmp.Or(e.Device, i.Device)
	i.Ranks = cmp.Or(e.Ranks, i.Ranks)
	if i.inLife.Step == 0 { // else it only came back on another connection
		i.inLife.Step, i.inLife.Tokens = e.Steps, e.Tokens
	}
	if i.since.IsZero() {
		i.since = e.At
	}
	i.meter.add(e.At, i.Tokens)
}

func (i *Island) gone(e IslandGone) {
	if e.Incarnation < i.incarnation {
		return // its successor has been heard of already
	}
	i.State, i.Reason = Away, e.Reason
	if e.Kind == Finished {
		i.State = Done
	}
	i.meter = meter{}
}

// step gives the number of steps that were newly skipped; news is false for word
// of a past life and for a step that was reported before.
func (i *Island) step(e StepDone) (skipped int64, news bool) {
	if e.Incarnation < i.incarnation {
		return 0, false
	}
	i.enter(e.Incarnation)
	if e.Step <= i.inLife.Step {
		return 0, false
	}
	began := e.At
	if s, ok := Known(e.StepSeconds).Get(); ok {
		began = began.Add(-time.Duration(s * float64(time.Second)))
	}
	if i.since.IsZero() {
		i.since = began
	}
	if i.meter.empty() {
		i.meter.add(began, i.Tokens)
	}
	skipped = int64(e.SkippedSteps - min(e.SkippedSteps, i.inLife.SkippedSteps))
	steps, tokens := int64(e.Step-i.inLife.Step), int64(e.Tokens-min(e.Tokens, i.inLife.Tokens))
	i.Steps += steps
	i.Tokens += tokens
	i.inLife, i.last, i.State = e, e.At, Training
	if busy := cmp.Or(max(e.BusySeconds, 0), e.StepSeconds); busy > 0 && tokens > 0 { // a step that was withheld has none
		step := Worked{busy, float64(tokens) / float64(steps)} // word of one may be lost on a broken stream
		i.lately = append(i.lately[max(0, len(i.lately)-paceSteps+1):], step)
	}
	i.Loss, i.GradientNorm = Known(e.Loss), told(e.GradientNorm)
	i.ExpertLoad, i.Rate = entropy(e.ExpertLoad), told(e.Rate)
	i.meter.add(e.At, i.Tokens)
	return skipped, true
}

// told reads a number of an event that is below 0 where nobody has told it.
func told(x float64) Value {
	if x < 0 {
		return Value{}
	}
	return Known(x)
}

// enter begins to count a new incarnation.
func (i *Island) enter(incarnation uint64) {
	if incarnation != i.incarnation {
		i.incarnation, i.inLife, i.lately = incarnation, StepDone{}, nil
	}
}

// Speed is the island's present tokens per second, unknown while it does not train.
func (i Island) Speed(now time.Time) Value {
	if i.State != Training {
		return Value{}
	}
	return i.meter.rate(now)
}

// MeanSpeed is its tokens per second from the first start of training to its last
// step, time spent dead included.
func (i Island) MeanSpeed() Value {
	seconds := i.last.Sub(i.since).Seconds()
	if i.last.IsZero() || seconds <= 0 {
		return Value{}
	}
	return Known(float64(i.Tokens) / seconds)
}

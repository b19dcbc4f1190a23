package island

import (
	"context"
	"math"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/wire"
)

// An island shows that it is alive every second, or more often where less than a
// few seconds of silence count as death.
const (
	heartbeatEvery   = time.Second
	heartbeatsMissed = 5 // at least, before it is taken for dead
)

// beat is the last progress, shared with the heartbeat.
type beat struct {
	mu    sync.Mutex
	aside string // why it does not step although it was told to; empty: nothing
	last  *wire.Progress
}

// report sends progress after a step and keeps it for the heartbeat.
func (r *runner) report(s StepStats, took time.Duration) {
	p := &wire.Progress{
		Step: r.learner.step, Position: uint64(r.learner.position), Tokens: uint64(r.learner.ownTokens()),
		Loss: finiteOr(s.Loss), GradientNorm: finiteOr(s.GradientNorm), ExpertLoad: s.ExpertLoad, Rate: s.Rate,
		StepSeconds: took.Seconds(), BusySeconds: s.BusySeconds, SkippedSteps: r.learner.skipped,
	}
	r.beat.mu.Lock()
	switch {
	case s.Tokens > 0:
	case r.beat.last != nil: // a step that was not made, as of a trainer that leaves: what the last one said still holds
		p.Loss, p.GradientNorm = r.beat.last.Loss, r.beat.last.GradientNorm
	default: // no step yet: unknown, not 0
		p.Loss, p.GradientNorm = math.NaN(), math.NaN()
	}
	r.beat.last = p
	r.beat.mu.Unlock()
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Progress{Progress: p}}, nil)
}

// resumed ends what wait began: from here on a learner that makes no step is stuck.
func (r *runner) resumed() {
	r.beat.mu.Lock()
	defer r.beat.mu.Unlock()
	if r.beat.last.Waiting != r.beat.aside {
		r.beat.last = proto.Clone(r.beat.last).(*wire.Progress)
		r.beat.last.Waiting = r.beat.aside
	}
}

// wait says why the learner does not step, at once and in every heartbeat.
func (r *runner) wait(why string) {
	r.beat.mu.Lock()
	p := proto.Clone(r.beat.last).(*wire.Progress)
	p.Position = uint64(r.learner.position) // own data that was trained before its lease came counts since the last step
	same := p.Waiting == why
	p.Waiting = why
	r.beat.last = p
	r.beat.mu.Unlock()
	if !same {
		r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Progress{Progress: p}}, nil)
	}
}

// heartbeats repeats the last progress, so that a long step is not taken for a
// dead process.
func (r *runner) heartbeats(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.beat.mu.Lock()
			p := r.beat.last
			r.beat.mu.Unlock()
			r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Progress{Progress: p}}, nil)
		}
	}
}

// aside says what keeps the learner from stepping even while it was told to; empty: nothing.
func (r *runner) aside(what string) {
	r.beat.mu.Lock()
	r.beat.aside = what
	r.beat.mu.Unlock()
	r.resumed()
}

// spikeOf is what the coordinator hears of a step that was none like any other.
func spikeOf(step uint64, s StepStats) *wire.Spike {
	d := s.Decision
	median, bound := math.NaN(), math.NaN()
	if d.Judged {
		median, bound = d.Median, d.Bound
	}
	return &wire.Spike{
		Step: step, Position: uint64(s.From), Samples: uint64(s.To - s.From), Retry: s.Retry, Verdict: spiked(d.Verdict),
		Loss: finiteOr(s.Loss), GradientNorm: normOr(s.GradientNorm), NormUnknown: s.GradientNorm < 0,
		Median: median, Bound: bound, Reason: d.Reason,
	}
}

func spiked(v spike.Verdict) wire.Spiked {
	switch v {
	case spike.Withhold:
		return wire.Spiked_WITHHELD
	case spike.HalfRate:
		return wire.Spiked_HALF_RATE
	case spike.Skip:
		return wire.Spiked_SKIPPED
	default:
		return wire.Spiked_SPIKED_UNKNOWN
	}
}

// normOr is the norm, NaN where it is not finite or not known.
func normOr(norm float64) float64 {
	if norm < 0 {
		return math.NaN()
	}
	return finiteOr(norm)
}

// finiteOr turns a value that cannot be shown into NaN; used for losses.
func finiteOr(v float64) float64 {
	if math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

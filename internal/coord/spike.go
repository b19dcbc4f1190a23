package coord

import (
	"fmt"
	"math"
	"time"

	"github.com/mistura-project/mistura/internal/rng"
	"github.com/mistura-project/mistura/internal/spike"
)

// spiked is one spike as the fleet remembers it.
type spiked struct {
	island  string
	at      int64 // fleet samples trained
	finite  bool
	samples []Range
}

// spike takes note of what a learner decided about a step. The samples of one that was
// withheld leave its lease for the pool, those of one that was skipped leave the run.
// A learner tells of its spikes again whenever its stream is back. One with data of its
// own tells of no samples: nothing is handed out again.
func (s *State) spike(m *member, in Spiked, now time.Time) ([]Effect, string) {
	own := in.Samples == 0
	if in.Position < m.judged || own && in.Step <= m.judgedStep {
		return nil, ""
	}
	to := in.Position + in.Samples
	if in.Samples < 0 || in.Position < max(m.committed, m.lease.base) || to > m.lease.end {
		return s.contradicts(m, fmt.Sprintf("it tells of a spike at positions %d to %d, which it cannot have trained", in.Position, to))
	}
	samples, _ := split(m.lease.from(in.Position), in.Samples)
	for _, r := range samples {
		if r.Retry() != in.Retry || (in.Verdict == spike.Withhold) == r.Retry() {
			return s.contradicts(m, fmt.Sprintf("it has %s samples %d to %d, second try: %v", in.Verdict, r.From, r.To, r.Retry()))
		}
	}
	m.judged, m.judgedStep = to, in.Step
	s.moved(m, to)
	r := spikeRecord(m, in, samples, now)
	what := fmt.Sprintf("%s step %d: %s: %s", m.island, in.Step, in.Reason, in.Verdict)
	switch {
	case own:
	case in.Verdict == spike.Withhold:
		m.holes = join(m.holes, Range{From: in.Position, To: to})
		r.Due = s.again(samples)
	case in.Verdict == spike.Skip:
		m.holes = join(m.holes, Range{From: in.Position, To: to})
		s.skipped = union(s.skipped, samples)
	}
	effects := []Effect{Record{r}}
	s.spikes = append(s.spikes, spiked{m.island, s.fleet, in.Finite, r.Samples})
	if why, causes := s.tooMany(); why != "" && !s.stopping {
		more, reason := s.rollBack(why, causes, now)
		return append(effects, more...), reason
	}
	return effects, what
}

// contradicts ends a learner whose word cannot be true; one that is ending says no more.
func (s *State) contradicts(m *member, why string) ([]Effect, string) {
	if m.phase == closing {
		return nil, m.island + ": " + why
	}
	return s.end(m, "died", why)
}

// again puts samples back into the pool and draws when they go out: in the last quarter
// of the new samples behind them, each step of it as likely as the next. The draw
// follows from the seed and how many there were before (D1).
//
// A lone island is never leased more than two thirds of what is left (see grant: it
// asks when it holds less than half of the pool, and is given half of it), so that the
// draw lies in the pool whatever the timing, and its run has the same order of samples
// each time. With fewer than shortEnd steps to come they go out last.
func (s *State) again(samples []Range) (due int64) {
	behind := samples[len(samples)-1].To
	due = s.pool.total
	if steps := (s.pool.total - behind) / s.cfg.StepSamples; steps >= shortEnd {
		first := steps - steps/4
		draw := rng.New(s.cfg.Seed, rng.Retry, uint64(s.withheld)).Float64()
		due = behind + (first+int64(draw*float64(steps/4)))*s.cfg.StepSamples
	}
	s.withheld++
	var back []Range
	for _, r := range samples {
		back = append(back, Range{r.From, r.To, due})
	}
	s.pool.give(back)
	s.leaveOut()
	return due
}

// shortEnd is how many steps from the end leases are no longer shares of the pool.
const shortEnd = 16

// tooMany says why the run is to be rolled back, and which samples led to it; or nothing.
func (s *State) tooMany() (why string, causes []Range) {
	last := s.spikes[len(s.spikes)-1]
	window := s.cfg.SpikeSteps * s.cfg.StepSamples
	var recent []spiked
	for _, o := range s.spikes {
		if last.at-o.at < max(window, s.cfg.PeriodSamples+1) {
			recent = append(recent, o)
		}
	}
	s.spikes = recent
	n, other := 0, ""
	var broken, all []Range
	for _, o := range recent {
		if last.at-o.at < window {
			n, all = n+1, union(all, o.samples)
		}
		if !last.finite && !o.finite && last.at-o.at <= s.cfg.PeriodSamples {
			broken = union(broken, o.samples)
			if o.island != last.island {
				other = o.island
			}
		}
	}
	switch {
	case other != "":
		return fmt.Sprintf("steps of %s and %s were not finite within one period", other, last.island), broken
	case s.cfg.SpikeLimit > 0 && n >= s.cfg.SpikeLimit:
		return fmt.Sprintf("%d spikes within %d steps", n, s.cfg.SpikeSteps), all
	}
	return "", nil
}

// rollBack ends the era, so that the next begins from the last checkpoint and leaves
// out what led here; when that has been done often enough it ends the run.
func (s *State) rollBack(why string, causes []Range, now time.Time) ([]Effect, string) {
	if s.rollbacks >= s.cfg.Rollbacks {
		return s.finish(Failed, fmt.Sprintf("%s, after %d of %d rollbacks", why, s.rollbacks, s.cfg.Rollbacks), now)
	}
	s.rollbacks++
	s.done = true
	why = fmt.Sprintf("rollback %d of %d: %s", s.rollbacks, s.cfg.Rollbacks, why)
	return []Effect{
		Record{RollbackRecord{"rollback", now, s.rollbacks, why, union(s.skipped, causes)}},
		Done{RolledBack, why},
	}, why
}

// leaveOut takes what rollbacks gave up out of the pool. What an island has trained of
// it by the checkpoint stays, unless it comes back: so this follows everything that
// fills the pool.
func (s *State) leaveOut() {
	for _, r := range s.avoid {
		s.skipped = union(s.skipped, s.pool.leaveOut(r))
	}
}

// SpikeRecord is a decision of the spike rule.
type SpikeRecord struct {
	Kind        string        `json:"kind"` // "spike"
	At          time.Time     `json:"at"`
	Incarnation uint64        `json:"incarnation"`
	Island      string        `json:"island"`
	Step        uint64        `json:"step"`
	Position    int64         `json:"position"` // of the first of Samples
	Samples     []Range       `json:"samples"`
	Retry       bool          `json:"retry,omitempty"`
	Verdict     spike.Verdict `json:"verdict"`
	Loss        *float64      `json:"loss"` // null: not finite
	Norm        *float64      `json:"gradient_norm"`
	Median      *float64      `json:"median"` // null: the window is not full
	Bound       *float64      `json:"bound"`  // null: losses are not judged yet, or never
	Reason      string        `json:"reason"`
	Due         int64         `json:"due,omitempty"` // withheld: handed out again behind the new samples below it
}

// RollbackRecord is the last of an era that is rolled back. Skipped is what the run leaves
// out from now on, unless it is in the model already.
type RollbackRecord struct {
	Kind     string    `json:"kind"` // "rollback"
	At       time.Time `json:"at"`
	Rollback int       `json:"rollback"` // from 1 in a run
	Why      string    `json:"why"`
	Skipped  []Range   `json:"skipped"`
}

func spikeRecord(m *member, in Spiked, samples []Range, now time.Time) SpikeRecord {
	r := SpikeRecord{
		Kind: "spike", At: now, Incarnation: m.incarnation, Island: m.island, Step: in.Step, Position: in.Position, Retry: in.Retry,
		Verdict: in.Verdict, Loss: number(in.Loss), Norm: number(in.Norm), Median: number(in.Median), Bound: number(in.Bound), Reason: in.Reason,
	}
	for _, x := range samples {
		r.Samples = join(r.Samples, Range{From: x.From, To: x.To})
	}
	return r
}

// number is nil for what JSON cannot hold.
func number(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

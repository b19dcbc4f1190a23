package coord

import (
	"fmt"
	"slices"
	"time"
)

// Moved: bytes of weights, tokens or a saved state have come from a member, or were taken by
// it, since that was said last. Nobody counts as stuck whose transfer makes progress, however
// long it takes on its way.
type Moved struct {
	Incarnation uint64
	Came        bool // on its stream, where whatever else it says waits behind them
}

func (Moved) isInput() {}

// transferred notes that something has moved.
func (s *State) transferred(m *member, in Moved, now time.Time) {
	m.movedAt = now
	if in.Came { // perhaps from a further host: whether the stream of the first is broken is another matter
		m.heardAt, m.steppedAt = now, now
	}
}

// tick finds members that are silent or stuck.
func (s *State) tick(now time.Time) ([]Effect, string) {
	var effects []Effect
	reason := ""
	for _, m := range s.ordered() {
		if why := s.lifeless(m, now); why != "" {
			more, r := s.end(m, "died", why)
			effects, reason = append(effects, more...), r
		}
	}
	more, why := s.saveTick(now)
	if why != "" {
		reason = why
	}
	return append(effects, more...), reason
}

// lifeless says why a member counts as dead, or nothing.
func (s *State) lifeless(m *member, now time.Time) string {
	if m.phase == closing || m.awaited {
		return ""
	}
	if limit, over := s.overdue(s.stopAt, s.cfg.StopWait, now, (*member).trains); s.stopping && m.phase != idle && over {
		return fmt.Sprintf("did not flush within %v", limit.Round(100*time.Millisecond))
	}
	if m.phase == launched || m.phase == joined { // no heartbeats before it is ready
		if m.entering(now) >= s.cfg.FirstStep && !(m.phase == launched && s.patient(m.island)) {
			what, limit, since := "not ready", s.cfg.FirstStep, "its start"
			if m.phase == joined && s.cfg.Gate && !m.gated {
				what = "no answer at the gate"
				if m.unanswered != "" {
					what += " (" + m.unanswered + ")"
				}
			}
			switch {
			case now.Sub(m.launchedAt) >= longestTransfer:
				limit = longestTransfer
			case m.movedAt.After(m.launchedAt):
				since = "the last bytes to or from it"
			}
			return fmt.Sprintf("%s %v after %s (limits.first_step_seconds)", what, limit, since)
		}
		return ""
	}
	if d := now.Sub(m.heardAt); d >= s.cfg.Heartbeat {
		return fmt.Sprintf("no sign of life for %v", d.Round(100*time.Millisecond))
	}
	if m.phase != training || m.waiting {
		return ""
	}
	limit := s.stall(m)
	if d := now.Sub(m.steppedAt); d >= limit {
		return fmt.Sprintf("no inner step for %v (limit %v)", d.Round(100*time.Millisecond), limit.Round(100*time.Millisecond))
	}
	return ""
}

// patient: it is started, and joins when a person wants it to.
func (s *State) patient(island string) bool { return slices.Contains(s.cfg.Patient, island) }

// entering is how long a member has been on its way to its first step, or what it is sent
// then has been at rest.
func (m *member) entering(now time.Time) time.Duration {
	if all := now.Sub(m.launchedAt); all >= longestTransfer {
		return all
	}
	return now.Sub(later(m.launchedAt, m.movedAt))
}

// stall is how long a step of the member may take.
func (s *State) stall(m *member) time.Duration {
	if m.seconds.n == 0 {
		return s.cfg.FirstStep
	}
	return max(s.cfg.Stall, s.unlike(m))
}

// unlike is how long a step takes that is like none of the member's.
func (s *State) unlike(m *member) time.Duration {
	return time.Duration(s.cfg.StallFactor * m.seconds.median() * float64(time.Second))
}

// longestTransfer is how long anybody waits for transfers at most: who sends or takes a byte now and
// then must not hold samples, a checkpoint or the end of a run for ever.
const longestTransfer = 24 * time.Hour

// overdue says whether those who are waited for have had long enough, from since on, for what they
// do at their next step boundary and what they send then: at least so long, or what the slowest of
// them may take for a step, while nothing of theirs moves. Each may wait for another's part in a merge.
func (s *State) overdue(since time.Time, least time.Duration, now time.Time, awaited func(*member) bool) (limit time.Duration, over bool) {
	moved := since
	for _, m := range s.members {
		if !awaited(m) {
			continue
		}
		moved = later(moved, m.movedAt)
		switch {
		case m.phase != training:
		case m.seconds.n > 0:
			least = max(least, s.unlike(m))
		case m.restored: // whoever has not stepped has nothing to lose, unless it brought something
			least = max(least, s.cfg.FirstStep)
		}
	}
	if longest := max(least, longestTransfer); now.Sub(since) >= longest {
		return longest, true
	}
	return least, now.Sub(moved) >= least
}

func (m *member) trains() bool { return m.phase == training }

func (m *member) exchanges() bool { return m.phase == training || m.phase == idle }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

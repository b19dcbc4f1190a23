package coord

import "time"

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
	if m.phase == training || m.phase == idle {
		s.movedAt = now
	}
	if in.Came {
		m.steppedAt = now
	}
}

// entering is how long a member has been on its way to its first step, or what it is sent
// then has been at rest.
func (m *member) entering(now time.Time) time.Duration {
	return now.Sub(later(m.launchedAt, m.movedAt))
}

// stall is how long a step of the member may take.
func (s *State) stall(m *member) time.Duration {
	if m.seconds.n == 0 {
		return s.cfg.FirstStep
	}
	return max(s.cfg.Stall, time.Duration(s.cfg.StallFactor*m.seconds.median()*float64(time.Second)))
}

// overdue says whether members have had long enough, from since on, for what they do at their
// next step boundary and what they send then: at least so long, or what the slowest of them may
// take for a step. Each may wait for another's part in a merge.
func (s *State) overdue(since time.Time, least time.Duration, now time.Time) (limit time.Duration, over bool) {
	for _, m := range s.members {
		if m.phase == training && m.seconds.n > 0 {
			least = max(least, s.stall(m))
		}
	}
	return least, now.Sub(later(since, s.movedAt)) >= least
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

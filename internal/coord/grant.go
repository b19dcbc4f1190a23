package coord

import (
	"fmt"
	"time"
)

// supply looks after everybody who could train: it tops leases up, and tells those
// who asked for samples when none are left. It follows every input, because any of
// them can make room: a verdict, a step, a death that fills the pool.
func (s *State) supply(now time.Time) ([]Effect, string) {
	var effects []Effect
	reason := ""
	for _, m := range s.ordered() {
		more, why := s.grant(m, now)
		if why != "" {
			reason = why
		}
		effects = append(effects, more...)
	}
	for _, m := range s.ordered() {
		if m.wants && m.phase == training && m.outstanding() <= 0 && s.pool.left() == 0 {
			m.wants = false
			effects, reason = append(effects, NoWork{m.incarnation}), m.island+": the pool is dry"
		}
	}
	return effects, reason
}

// grant tops a member's lease up.
//
// A lease reaches Runway beyond the last verdict (L1), but no further than a
// fair part of what is left: with n islands, 1/(2n) of the pool at a time
// (guided self-scheduling, Polychronopoulos and Kuck 1987), so that all of them
// run dry at about the same time whatever their speeds.
func (s *State) grant(m *member, now time.Time) ([]Effect, string) {
	if s.stopping || (m.phase != training && m.phase != idle) || s.pool.left() == 0 {
		return nil, ""
	}
	reach := s.reach(m)
	settled := max(m.answered, m.began)
	room := reach - (m.net(m.lease.end) - m.net(settled)) // of a withheld step nothing is at stake, and no verdict comes
	low := max(2*s.cfg.StepSamples, reach/2)
	if room <= 0 || m.outstanding() >= low {
		return nil, ""
	}
	fair := s.pool.left() / int64(2*max(s.places(), 1))
	if m.outstanding() >= max(2*s.cfg.StepSamples, min(low, fair)) {
		return nil, "" // near the end: two steps ahead are enough
	}
	n := max(min(room, fair)/s.cfg.StepSamples, 1) * s.cfg.StepSamples
	at, ranges := m.lease.end, s.pool.take(n)
	if m.outstanding() <= 0 {
		m.steppedAt = now // it could not step before
	}
	m.lease.add(ranges)
	m.phase, m.wants = training, false
	return []Effect{
		Record{LeaseRecord{"lease", now, m.incarnation, ranges}},
		Grant{m.incarnation, at, ranges},
	}, fmt.Sprintf("%s: %d samples leased, %d left in the pool", m.island, length(ranges), s.pool.left())
}

// places is how many islands share the pool: those that are here, and those that may
// yet come. Of the samples of a short run the first one would otherwise take so many
// before the others have loaded that it trains the end alone.
func (s *State) places() int {
	n := 0
	for _, sl := range s.slots {
		if !sl.shut {
			n++
		}
	}
	return n
}

// reach is how many samples a lease may go beyond the last verdict:
// max(Runway at its own speed, two periods).
func (s *State) reach(m *member) int64 {
	reach := max(2*s.cfg.PeriodSamples, 2*s.cfg.StepSamples)
	if m.seconds.n > 0 {
		runway := s.cfg.Runway.Seconds() / m.seconds.median() * float64(s.cfg.StepSamples)
		reach = max(reach, int64(min(runway, float64(s.cfg.TotalSamples))))
	}
	return reach
}

// wantsWork: nothing leased. What it gets follows from supply.
func (s *State) wantsWork(m *member) ([]Effect, string) {
	if s.stopping {
		return []Effect{Revoke{m.incarnation}}, m.island + ": stopping"
	}
	m.wants = true
	return nil, ""
}

// window keeps the last step times of a member for their median.
type window struct {
	last [31]float64
	n    int
}

func (w *window) add(v float64) {
	w.last[w.n%len(w.last)] = v
	w.n++
}

func (w *window) median() float64 {
	k := min(w.n, len(w.last))
	sorted := w.last
	for i := 1; i < k; i++ { // insertion sort of at most 31 values
		for j := i; j > 0 && sorted[j] < sorted[j-1]; j-- {
			sorted[j], sorted[j-1] = sorted[j-1], sorted[j]
		}
	}
	return sorted[k/2]
}

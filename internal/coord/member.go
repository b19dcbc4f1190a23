package coord

import (
	"fmt"
	"slices"
	"time"
)

// phase of a member's life.
type phase int

const (
	launched phase = iota // process asked for
	joined                // said Hello, is being seeded
	training              // ready; has or wants a lease
	idle                  // everything flushed
	closing               // waits for ClosedAt
)

// member is one live or closing incarnation.
type member struct {
	incarnation uint64
	island      string
	phase       phase
	launchedAt  time.Time
	heardAt     time.Time // last sign of life
	steppedAt   time.Time // last inner step, or when it could have begun one
	movedAt     time.Time // last time that bytes went to or fro; zero: never
	step        uint64
	position    int64  // samples trained
	committed   int64  // highest position in the model
	brought     int64  // of which when it was launched
	answered    int64  // lowest position with a verdict, over fragments
	began       int64  // position when it was ready: there its runway begins
	restored    bool   // launched with a seed
	seed        Seed   // that
	took        bool   // has taken it over
	futile      bool   // nobody can take that over
	again       bool   // closing: the seed goes to its successor
	unclaimed   bool   // closing: the seed was not taken over
	awaited     bool   // from outside, and not here yet
	broken      bool   // its stream is, and it was not heard since
	gated       bool   // has passed the gate, or there is none
	unanswered  string // why it has not, as far as that is known
	lease       lease
	holes       []Range // positions of steps that were not applied; ascending, disjoint
	judged      int64   // position behind the last spike that it has told of
	judgedStep  uint64  // of that one
	seconds     window  // of the inner steps of this incarnation
	waiting     bool    // says that it does not step, and why
	wants       bool    // asked for samples, and was given neither some nor NoWork
	how, why    string  // of its end
	captured    int64   // position of its saved state; -1 none
}

// longestStep in seconds is the longest that is believed.
const longestStep = 1e6

// outstanding is how many samples it holds and has not trained.
func (m *member) outstanding() int64 { return m.lease.end - m.position }

// net is how many samples before a position it has applied, or may still.
func (m *member) net(position int64) int64 { return position - holed(m.holes, position) }

// moved takes a member's position on; what it holds is the limit.
func (s *State) moved(m *member, position int64) {
	to := min(max(m.position, position), m.lease.end)
	s.fleet += to - m.position
	m.position = to
}

// member handles the inputs that name an incarnation.
func (s *State) member(in Input, now time.Time) ([]Effect, string) {
	inc := incarnationOf(in)
	m := s.members[inc]
	if m == nil || (m.phase == closing && !isEnding(in)) {
		if in, ok := in.(Joined); ok {
			return []Effect{s.farewell(inc, in.Island, s.closedFor(m, in.Island))}, fmt.Sprintf("incarnation %d is closed", inc)
		}
		return nil, ""
	}
	if isHeard(in) {
		m.heardAt, m.broken = now, false
	}
	switch in := in.(type) {
	case Joined:
		return s.joined(m, in, now)
	case Gated:
		return s.gated(m, in, now)
	case Moved:
		s.transferred(m, in, now)
		return nil, ""
	case Unanswered:
		m.unanswered = in.Why
		return nil, ""
	case Restored:
		m.took = true
		return []Effect{Withdraw{m.incarnation, m.island}}, ""
	case Ready:
		return s.ready(m, now)
	case Progress:
		return s.progress(m, in, now)
	case Spiked:
		return s.spike(m, in, now)
	case WantsWork:
		return s.wantsWork(m)
	case Idle:
		return s.idle(m, in)
	case Left:
		if m.phase == launched || m.phase == joined { // it could not begin
			return s.end(m, "died", in.Why)
		}
		return s.end(m, "left", in.Why)
	case Exited:
		return s.end(m, "died", in.Why)
	case Disconnected:
		return s.disconnected(m)
	case Consumed:
		m.settled(in)
		return nil, ""
	case ClosedAt:
		return s.closedAt(m, in, now)
	case Quarantine:
		s.slots[m.island].shut, s.slots[m.island].why = true, in.Why
		if m.phase == closing { // it died on the way here; it is not started again all the same
			return nil, m.island + " is quarantined: " + in.Why
		}
		return s.end(m, "quarantined", in.Why)
	case Captured:
		return s.capturedBy(m, in)
	}
	return nil, ""
}

func incarnationOf(in Input) uint64 {
	switch in := in.(type) {
	case Joined:
		return in.Incarnation
	case Gated:
		return in.Incarnation
	case Moved:
		return in.Incarnation
	case Unanswered:
		return in.Incarnation
	case Restored:
		return in.Incarnation
	case Ready:
		return in.Incarnation
	case Progress:
		return in.Incarnation
	case Spiked:
		return in.Incarnation
	case WantsWork:
		return in.Incarnation
	case Idle:
		return in.Incarnation
	case Left:
		return in.Incarnation
	case Exited:
		return in.Incarnation
	case Disconnected:
		return in.Incarnation
	case Consumed:
		return in.Incarnation
	case ClosedAt:
		return in.Incarnation
	case Quarantine:
		return in.Incarnation
	case Captured:
		return in.Incarnation
	}
	return 0
}

// isEnding: inputs that still matter once an incarnation is closing. A contribution
// behind a spike may still be merged.
func isEnding(in Input) bool {
	switch in.(type) {
	case ClosedAt, Consumed, Quarantine, Spiked:
		return true
	}
	return false
}

// isHeard: the learner itself speaks.
func isHeard(in Input) bool {
	switch in.(type) {
	case Exited, Disconnected, Consumed, ClosedAt, Quarantine, Moved:
		return false
	}
	return true
}

func (s *State) start(now time.Time) ([]Effect, string) {
	s.started = true
	var effects []Effect
	for _, name := range s.cfg.Islands {
		effects = append(effects, s.launch(name, now)...)
	}
	effects = append(effects, s.await(now)...)
	if len(s.cfg.Islands) == 0 {
		return effects, "the run begins when an island joins"
	}
	return effects, "the run begins"
}

// launch starts the island under a new incarnation.
func (s *State) launch(name string, now time.Time) []Effect {
	s.touched = true
	m, effects := s.incarnate(name, now)
	return append(effects, Launch{m.incarnation, name, s.slots[name].starts > 1})
}

// incarnate gives the island a new incarnation. A seed from a checkpoint serves the first
// that takes it over; a later one starts from the model.
func (s *State) incarnate(name string, now time.Time) (*member, []Effect) {
	s.incarnation++
	sl := s.slots[name]
	sl.starts++
	seed, restored := s.seeds[name]
	delete(s.seeds, name)
	if restored {
		sl.offered++
	}
	m := &member{
		incarnation: s.incarnation, island: name, launchedAt: now, heardAt: now, steppedAt: now, captured: -1,
		position: seed.Position, committed: seed.Committed, brought: seed.Committed, answered: seed.Answered,
		restored: restored, seed: seed, lease: lease{base: seed.Base, end: seed.Base}, holes: seed.Holes,
	}
	m.lease.add(seed.Leases)
	s.members[m.incarnation] = m
	return m, []Effect{Record{LaunchRecord{"launch", now, m.incarnation, name, seed.Base, slices.Clone(seed.Leases), seed.Position}}}
}

// joined lets a process in. One that comes back after its stream broke is told
// what it may have missed: what it holds, and whether the run is to stop. While it
// is being seeded that cannot be made up for, so it starts again.
func (s *State) joined(m *member, in Joined, now time.Time) ([]Effect, string) {
	if in.Island != m.island {
		return []Effect{Expel{m.incarnation, fmt.Sprintf("incarnation %d is island %q, not %q", m.incarnation, m.island, in.Island)}}, "wrong name"
	}
	switch m.phase {
	case launched:
		m.phase, m.steppedAt = joined, now
		if s.patient(m.island) {
			m.launchedAt = now
		}
		return []Effect{Admit{m.incarnation, m.restored}}, m.island + " joined"
	case joined:
		return s.end(m, "died", "its stream broke while it was being seeded")
	}
	back := m.island + " is back on its stream"
	if s.measuring == m.incarnation { // the question or its answer may be lost: it is asked again
		s.measuring = 0
	}
	if s.stopping {
		return []Effect{Revoke{m.incarnation}}, back
	}
	return []Effect{Regrant{m.incarnation, m.position, m.lease.from(m.position)}}, back
}

func (s *State) disconnected(m *member) ([]Effect, string) {
	if m.phase == joined {
		return s.end(m, "died", "its stream broke while it was being seeded")
	}
	m.broken = true
	return nil, m.island + ": stream broke, waiting for it to come back"
}

func (s *State) ready(m *member, now time.Time) ([]Effect, string) {
	if m.phase != joined {
		return nil, ""
	}
	if s.cfg.Gate && !m.gated {
		return s.end(m, "died", "said that it is ready before the gate had let it in")
	}
	m.phase, m.steppedAt, m.began = training, now, m.position
	switch {
	case s.stopping:
		return []Effect{Revoke{m.incarnation}}, m.island + " is ready: stopping"
	case m.outstanding() > 0:
		return []Effect{Regrant{m.incarnation, m.position, m.lease.from(m.position)}}, m.island + " is ready and trains again what it cannot take over"
	}
	return nil, m.island + " is ready"
}

// progress is a step when it took time. Before it is ready a restored learner says
// where it stands: when no fragment of its state holds any more, because all have
// moved on, that is behind what is in the model and not where the state was saved. What
// it then trains again must not be samples that others have by now.
func (s *State) progress(m *member, in Progress, now time.Time) ([]Effect, string) {
	if m.phase == joined {
		before := m.position
		m.step, m.position = in.Step, min(max(in.Position, m.committed), m.lease.end)
		if holed(m.holes, before) != holed(m.holes, m.position) {
			m.futile = true
			return s.end(m, "died", "it would train a step again that was withheld")
		}
		return nil, ""
	}
	m.waiting = in.Waiting != ""
	s.moved(m, in.Position)
	if m.waiting {
		m.steppedAt = now
	}
	if in.Step <= m.step {
		return nil, ""
	}
	m.step = in.Step
	if in.StepSeconds > 0 && in.StepSeconds < longestStep {
		m.steppedAt = now
		m.seconds.add(in.StepSeconds)
		if m.phase == idle {
			m.phase = training
		}
	}
	return nil, ""
}

// idle: it has used up what it knows of, everything is flushed and answered. It
// may not have heard of its newest lease yet; then it is not idle.
func (s *State) idle(m *member, in Idle) ([]Effect, string) {
	s.moved(m, in.Position)
	if m.phase != training || (m.outstanding() > 0 && !s.stopping) {
		return nil, ""
	}
	m.phase, m.wants = idle, false
	m.answered = max(m.answered, m.position)
	return nil, m.island + " is idle"
}

// settled moves what is in the model and what has verdicts. A learner cannot have
// more there than it was given.
func (m *member) settled(in Consumed) {
	m.committed = max(m.committed, min(in.Position, m.lease.end))
	m.answered = max(m.answered, min(in.Answered, m.lease.end))
	m.lease.forget(min(m.committed, m.answered))
}

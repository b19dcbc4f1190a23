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
	switch in := in.(type) {
	case Exited, Disconnected, Consumed, ClosedAt, Quarantine:
		return false
	case Moved:
		return in.Came
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

// end closes an incarnation: the groups record it, then the rest of its lease
// comes back (S2).
func (s *State) end(m *member, how, why string) ([]Effect, string) {
	sl := s.slots[m.island]
	m.unclaimed = m.holdsSeed()
	m.again = m.unclaimed && (how == "died" || how == "refused") && s.offers(m)
	switch {
	case how == "left":
		sl.shut = !sl.outside
	case m.unclaimed && sl.barren < s.cfg.Restarts: // what it was offered is counted
	case how == "died" && m.committed > m.brought:
		sl.barren = 0
	case how == "died" || how == "refused":
		sl.barren++
	}
	m.phase, m.how, m.why = closing, how, why
	end := Effect(Expel{m.incarnation, why})
	if how == "died" {
		end = s.farewell(m.incarnation, m.island, why)
	}
	return []Effect{end, Close{m.incarnation, why}}, fmt.Sprintf("%s %s: %s", m.island, how, why)
}

// farewell ends the session of an incarnation that is closed. An island from outside may come
// back under its name, unless that does not help or nobody is let in any more: nobody else would
// start it again. Of one that waits for its trainer the process is started again, and the trainer
// is to come to it.
func (s *State) farewell(incarnation uint64, island, why string) Effect {
	sl, late := s.slots[island], s.stopping || s.finished()
	if sl != nil && (sl.outside || s.patient(island)) && !sl.shut && !late && sl.barren < s.cfg.Restarts {
		return Recall{incarnation, why}
	}
	return Expel{incarnation, why}
}

// closedFor says why an incarnation is closed, as far as that is known still.
func (s *State) closedFor(m *member, island string) string {
	why := ""
	if m != nil {
		why = m.why
	} else if sl := s.slots[island]; sl != nil {
		why = sl.ended
	}
	if why == "" {
		return "this incarnation is closed"
	}
	return "this incarnation is closed: " + why
}

// closedAt hands back what is not in the model and starts the island again. A
// restored member may end before the syncer knew what it had brought along.
func (s *State) closedAt(m *member, in ClosedAt, now time.Time) ([]Effect, string) {
	if m.phase != closing {
		return nil, ""
	}
	position := max(min(in.Position, m.lease.end), m.committed)
	rest := m.lease.applied(position, m.holes)
	delete(s.members, m.incarnation)
	s.slots[m.island].ended = m.why
	effects := []Effect{
		Record{CloseRecord{"close", now, m.incarnation, m.island, m.how, m.why, position, rest}},
		Gone{m.incarnation, m.island, m.how, m.why},
	}
	m.unclaimed = m.unclaimed && position == m.brought // what it had sent before may be in the model by now
	if m.unclaimed && m.again && s.offers(m) {
		s.pool.give(m.lease.applied(m.seed.Position, m.holes)) // what it was granted beside
		s.leaveOut()
		return append(effects, s.offer(m, now)...), fmt.Sprintf("%s closed before it had its saved state, which waits for its next incarnation", m.island)
	}
	s.consumed += m.net(position)
	s.pool.give(rest)
	s.leaveOut()
	if m.unclaimed && m.how != "finished" {
		effects = append(effects, Record{NotRestoredRecord{"not_restored", now, m.incarnation, m.island, s.slots[m.island].offered, m.why}})
	}
	return append(effects, s.replace(m, now)...),
		fmt.Sprintf("%s closed at sample %d, %d samples handed back", m.island, position, length(rest))
}

// replace starts the island again unless it left, was shut, cannot get to its first
// step, or comes back by itself.
func (s *State) replace(m *member, now time.Time) []Effect {
	sl := s.slots[m.island]
	if s.stopping || sl.shut || sl.outside || s.finished() {
		return nil
	}
	if sl.barren >= s.cfg.Restarts {
		sl.shut = true
		return []Effect{Gone{m.incarnation, m.island, "given up", fmt.Sprintf("%d starts in a row that brought nothing into the model; last: %s", sl.barren, m.why)}}
	}
	return s.launch(m.island, now)
}

// interrupt takes back every lease; when all have flushed the run is saved and
// ends. One that is still starting has nothing to save, unless it brings a state
// along from a checkpoint: then it comes up first. A state that nobody has come for stays.
func (s *State) interrupt(now time.Time) ([]Effect, string) {
	if s.stopping {
		return nil, ""
	}
	s.stopping, s.stopAt, s.why = true, now, "interrupted by the user"
	if !s.touched { // a new checkpoint would hold less than the one it began from
		return s.finish(Interrupted, s.why+" before an island came", now)
	}
	var effects []Effect
	for _, m := range s.ordered() {
		switch m.phase {
		case training, idle:
			effects = append(effects, Revoke{m.incarnation})
		case launched, joined:
			if !m.restored {
				more, _ := s.end(m, "finished", "interrupted before its first step")
				effects = append(effects, more...)
			}
		}
	}
	return effects, s.why
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

// patient: it is started, and joins when a person wants it to.
func (s *State) patient(island string) bool { return slices.Contains(s.cfg.Patient, island) }

// lifeless says why a member counts as dead, or nothing.
func (s *State) lifeless(m *member, now time.Time) string {
	if m.phase == closing || m.awaited {
		return ""
	}
	if limit, over := s.overdue(s.stopAt, s.cfg.StopWait, now); s.stopping && m.phase != idle && over {
		return fmt.Sprintf("did not flush within %v", limit.Round(100*time.Millisecond))
	}
	if m.phase == launched || m.phase == joined { // no heartbeats before it is ready
		if m.entering(now) >= s.cfg.FirstStep && !(m.phase == launched && s.patient(m.island)) {
			what, since := "not ready", "its start"
			if m.phase == joined && s.cfg.Gate && !m.gated {
				what = "no answer at the gate"
				if m.unanswered != "" {
					what += " (" + m.unanswered + ")"
				}
			}
			if m.movedAt.After(m.launchedAt) {
				since = "the last bytes to or from it"
			}
			return fmt.Sprintf("%s %v after %s (limits.first_step_seconds)", what, s.cfg.FirstStep, since)
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

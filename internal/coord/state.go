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
	step        uint64
	position    int64 // samples trained
	committed   int64 // highest position in the model
	answered    int64 // lowest position with a verdict, over fragments
	leases      []Range
	seconds     window // of its inner steps
	waiting     bool
	how, why    string // of its end
	captured    int64  // position of its saved state; -1 none
}

func (m *member) outstanding() int64 { return length(m.leases) - m.position }

// slot is an island's place in the run, whichever process fills it.
type slot struct {
	barren int  // starts in a row that ended before an inner step
	shut   bool // left, quarantined or given up: not started again
	starts int
}

// State is the coordinator. The zero value is not usable: see New and Restore.
type State struct {
	cfg         Config
	pool        pool
	members     map[uint64]*member
	slots       map[string]*slot
	incarnation uint64 // last one given
	consumed    int64  // samples in the model, of closed incarnations
	save        save
	stopping    bool
	stopAt      time.Time
	why         string // of stopping
	done        bool
	seeds       map[string]Seed
}

// Seed is what an island takes over from a checkpoint.
type Seed struct {
	Leases    []Range
	Position  int64 // samples of Leases that count as trained
	Committed int64 // samples of Leases that are in the model
}

// New is a run that begins with sample 0.
func New(cfg Config) *State {
	s := &State{cfg: cfg, members: map[uint64]*member{}, slots: map[string]*slot{}, seeds: map[string]Seed{}}
	s.pool.total = cfg.TotalSamples
	for _, name := range cfg.Islands {
		s.slots[name] = &slot{}
	}
	return s
}

// Step takes one input at time now and returns what to do and why.
func (s *State) Step(in Input, now time.Time) ([]Effect, string) {
	if s.done {
		return nil, "the run is over"
	}
	var effects []Effect
	reason := ""
	switch in := in.(type) {
	case Start:
		effects, reason = s.start(now)
	case Interrupt:
		effects, reason = s.interrupt(now)
	case Tick:
		effects, reason = s.tick(now)
	case Quiet:
		effects, reason = s.quiet(now)
	case CutTaken:
		effects, reason = s.cutTaken(in, now)
	case Saved:
		effects, reason = s.saved(in)
	case SaveFailed:
		effects, reason = s.saveFailed(in, now)
	default:
		effects, reason = s.member(in, now)
	}
	more, why := s.settle(now)
	if why != "" {
		reason = why
	}
	return append(effects, more...), reason
}

// member handles the inputs that name an incarnation.
func (s *State) member(in Input, now time.Time) ([]Effect, string) {
	inc := incarnationOf(in)
	m := s.members[inc]
	if m == nil || (m.phase == closing && !isEnding(in)) {
		if _, ok := in.(Joined); ok {
			return []Effect{Expel{inc, "this incarnation is closed"}}, fmt.Sprintf("incarnation %d is closed", inc)
		}
		return nil, ""
	}
	if _, ended := in.(Exited); !ended {
		m.heardAt = now
	}
	switch in := in.(type) {
	case Joined:
		return s.joined(m, in, now)
	case Ready:
		m.phase, m.steppedAt = training, now
		return s.grant(m, now)
	case Progress:
		return s.progress(m, in, now)
	case WantsWork:
		return s.wantsWork(m, now)
	case Idle:
		if m.outstanding() > 0 && !s.stopping {
			return nil, "" // said before it heard of its new lease
		}
		m.phase = idle
		return nil, m.island + " is idle"
	case Left:
		return s.end(m, "left", in.Why, now)
	case Exited:
		return s.exited(m, in, now)
	case Disconnected:
		return nil, m.island + ": stream broke, waiting for it to come back"
	case Consumed:
		m.committed, m.answered = max(m.committed, in.Position), max(m.answered, in.Answered)
		return s.grant(m, now)
	case ClosedAt:
		return s.closedAt(m, in, now)
	case Quarantine:
		s.slots[m.island].shut = true
		return s.end(m, "quarantined", in.Why, now)
	case Captured:
		return s.capturedBy(m, in)
	}
	return nil, ""
}

func incarnationOf(in Input) uint64 {
	switch in := in.(type) {
	case Joined:
		return in.Incarnation
	case Ready:
		return in.Incarnation
	case Progress:
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

// isEnding: inputs that still matter once an incarnation is closing.
func isEnding(in Input) bool {
	switch in.(type) {
	case ClosedAt, Consumed:
		return true
	}
	return false
}

func (s *State) start(now time.Time) ([]Effect, string) {
	var effects []Effect
	for _, name := range s.cfg.Islands {
		effects = append(effects, s.launch(name, now)...)
	}
	return effects, "the run begins"
}

// launch gives the island a new incarnation. A seed from a checkpoint serves its
// first incarnation only; a later one starts from the model.
func (s *State) launch(name string, now time.Time) []Effect {
	s.incarnation++
	sl := s.slots[name]
	sl.starts++
	seed := s.seeds[name]
	delete(s.seeds, name)
	m := &member{
		incarnation: s.incarnation, island: name, launchedAt: now, heardAt: now, steppedAt: now, captured: -1,
		leases: seed.Leases, position: seed.Position, committed: seed.Committed, answered: seed.Committed,
	}
	s.members[m.incarnation] = m
	return []Effect{
		Record{LaunchRecord{"launch", now, m.incarnation, name, seed.Leases, seed.Position}},
		Launch{m.incarnation, name, sl.starts > 1},
	}
}

func (s *State) joined(m *member, in Joined, now time.Time) ([]Effect, string) {
	if in.Island != m.island {
		return []Effect{Expel{m.incarnation, fmt.Sprintf("incarnation %d is island %q, not %q", m.incarnation, m.island, in.Island)}}, "wrong name"
	}
	if m.phase != launched {
		return nil, m.island + " is back on its stream"
	}
	m.phase, m.steppedAt = joined, now
	return []Effect{Admit{m.incarnation}}, m.island + " joined"
}

func (s *State) progress(m *member, in Progress, now time.Time) ([]Effect, string) {
	m.waiting = in.Waiting != ""
	if in.Step > m.step {
		m.step, m.position, m.steppedAt = in.Step, in.Position, now
		m.seconds.add(in.StepSeconds)
		s.slots[m.island].barren = 0
		if m.phase == idle {
			m.phase = training
		}
	}
	if m.waiting {
		m.steppedAt = now
	}
	return s.grant(m, now)
}

// exited: a process that ended after it was dismissed is no loss.
func (s *State) exited(m *member, in Exited, now time.Time) ([]Effect, string) {
	return s.end(m, "died", in.Why, now)
}

// end closes an incarnation: the groups record it, then the rest of its lease
// comes back (S2).
func (s *State) end(m *member, how, why string, now time.Time) ([]Effect, string) {
	sl := s.slots[m.island]
	switch {
	case how == "left":
		sl.shut = true
	case how == "died" && m.step == 0:
		sl.barren++
	}
	m.phase, m.how, m.why = closing, how, why
	return []Effect{
		Expel{m.incarnation, why},
		Close{m.incarnation, why},
	}, fmt.Sprintf("%s %s: %s", m.island, how, why)
}

func (s *State) closedAt(m *member, in ClosedAt, now time.Time) ([]Effect, string) {
	position := max(in.Position, m.committed) // a restored member may end before the syncer knew it
	used, rest := split(m.leases, position)
	s.consumed += length(used)
	s.pool.give(rest)
	delete(s.members, m.incarnation)
	effects := []Effect{
		Record{CloseRecord{"close", now, m.incarnation, m.island, m.how, m.why, position, rest}},
		Gone{m.incarnation, m.island, m.how, m.why},
	}
	effects = append(effects, s.replace(m, now)...)
	for _, other := range s.ordered() { // somebody who ran dry can take what came back
		if other.phase == idle && !s.stopping && s.pool.left() > 0 {
			more, _ := s.grant(other, now)
			effects = append(effects, more...)
		}
	}
	return effects, fmt.Sprintf("%s closed at sample %d, %d samples handed back", m.island, position, length(rest))
}

// replace starts the island again unless it left, was shut, or cannot get to its first step.
func (s *State) replace(m *member, now time.Time) []Effect {
	sl := s.slots[m.island]
	if s.stopping || sl.shut || s.finished() {
		return nil
	}
	if sl.barren >= s.cfg.Restarts {
		sl.shut = true
		return []Effect{Gone{m.incarnation, m.island, "given up", fmt.Sprintf("%d starts in a row without one inner step; last: %s", sl.barren, m.why)}}
	}
	return s.launch(m.island, now)
}

// interrupt takes back every lease; when all have flushed the run is saved and ends.
func (s *State) interrupt(now time.Time) ([]Effect, string) {
	if s.stopping {
		return nil, ""
	}
	s.stopping, s.stopAt, s.why = true, now, "interrupted by the user"
	var effects []Effect
	for _, m := range s.ordered() {
		switch m.phase {
		case training, idle:
			effects = append(effects, Revoke{m.incarnation})
		case launched, joined:
			more, _ := s.end(m, "finished", "interrupted before its first step", now)
			effects = append(effects, more...)
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
			more, r := s.end(m, "died", why, now)
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
	switch m.phase {
	case closing:
		return ""
	case launched, joined:
		if now.Sub(m.launchedAt) >= s.cfg.FirstStep {
			return fmt.Sprintf("not ready %v after its start", s.cfg.FirstStep)
		}
		if m.phase == launched {
			return ""
		}
	}
	if d := now.Sub(m.heardAt); d >= s.cfg.Heartbeat {
		return fmt.Sprintf("no sign of life for %v", d.Round(100*time.Millisecond))
	}
	if s.stopping && m.phase != idle && now.Sub(s.stopAt) >= s.cfg.StopWait {
		return fmt.Sprintf("did not flush within %v", s.cfg.StopWait)
	}
	if m.phase != training || m.outstanding() <= 0 {
		return ""
	}
	limit := s.cfg.FirstStep
	if m.seconds.n > 0 {
		limit = max(s.cfg.Stall, time.Duration(s.cfg.StallFactor*m.seconds.median()*float64(time.Second)))
	}
	if d := now.Sub(m.steppedAt); d >= limit {
		return fmt.Sprintf("no inner step for %v (limit %v)", d.Round(100*time.Millisecond), limit.Round(100*time.Millisecond))
	}
	return ""
}

// ordered lists the members by incarnation, so that equal inputs give equal effects.
func (s *State) ordered() []*member {
	list := make([]*member, 0, len(s.members))
	for _, m := range s.members {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *member) int { return int(a.incarnation) - int(b.incarnation) })
	return list
}

// Consumed is the number of samples that are in the model.
func (s *State) Consumed() int64 {
	n := s.consumed
	for _, m := range s.members {
		n += m.committed
	}
	return n
}

// Live is the number of members that are neither closing nor gone.
func (s *State) Live() int {
	n := 0
	for _, m := range s.members {
		if m.phase != closing {
			n++
		}
	}
	return n
}

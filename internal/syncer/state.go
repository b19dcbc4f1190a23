package syncer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/outer"
)

// learner is one live incarnation.
type learner struct {
	incarnation uint64
	island      string
	tokens      int64  // trained, as it reports
	recent      []bool // its last contributions: refused?
}

// entry is what a fragment remembers of a learner: enough to answer a
// contribution that is sent again, and to keep a sample from counting twice.
type entry struct {
	island   string
	sequence uint64 // last one with a verdict
	ruling   Ruling
	reason   string
	merged   int64 // position up to which its samples are in the fragment
	answered int64 // position up to which it has verdicts
}

type fragment struct {
	version  uint64
	stamp    int64 // tokens merged into it
	nextDue  int64 // fleet tokens
	rounds   uint64
	round    *round
	pending  map[uint64]Contribution // by incarnation
	newestAt time.Time               // of pending
	table    map[uint64]*entry
	log      []outer.Merge // committed merges, oldest first
}

// State is the syncer of one group of fragments.
type State struct {
	cfg       Config
	fragments []*fragment
	learners  map[uint64]*learner
	closed    closed
	fleet     int64     // tokens trained by all learners, dead ones included
	fleetAt   time.Time // when it last rose
	queue     []item
	busy      bool // the head of the queue is being merged or committed
	paused    bool
	quietSaid bool
}

// New is a group at version 0 with nobody joined.
func New(cfg Config) *State {
	s := &State{cfg: cfg, learners: map[uint64]*learner{}}
	for p := range cfg.Fragments {
		s.fragments = append(s.fragments, &fragment{
			nextDue: stagger(cfg, p),
			pending: map[uint64]Contribution{},
			table:   map[uint64]*entry{},
		})
	}
	return s
}

// stagger spreads the fragments over the period: the fleet tokens after which
// fragment p is due for the first time.
func stagger(cfg Config, p int) int64 { return cfg.PeriodTokens * int64(p+1) / int64(cfg.Fragments) }

// Step takes one input at time now and returns what to do and why.
func (s *State) Step(in Input, now time.Time) ([]Effect, string) {
	var effects []Effect
	reason := ""
	switch in := in.(type) {
	case Join:
		reason = s.join(in)
	case Progress:
		s.progress(in, now)
	case Back:
		effects, reason = s.back(in)
	case Arrived:
		effects, reason = s.arrived(in.Contribution, now)
	case Passed:
		s.passed(in)
	case Close:
		effects, reason = s.close(in)
	case Merged:
		effects, reason = s.merged(in, now)
	case Committed:
		effects, reason = s.committed()
	case Pause:
		s.paused, s.quietSaid = true, false
	case Resume:
		s.paused = false
	case TakeCut:
		s.queue = append(s.queue, cutItem{in.Checkpoint})
	case Tick:
	}
	opened, why := s.openDue(now)
	effects = append(effects, opened...)
	s.closeRounds(now)
	effects = append(effects, s.advance(now)...)
	if s.paused && !s.quietSaid && s.resting() {
		s.quietSaid = true
		effects = append(effects, Quiet{})
	}
	if reason == "" {
		reason = why
	}
	return effects, reason
}

// join lets a learner take part, once in its incarnation: what the tables know of
// it is never forgotten while it lives, and nobody comes back from the dead.
func (s *State) join(in Join) string {
	if s.closed.has(in.Incarnation) || s.learners[in.Incarnation] != nil {
		return fmt.Sprintf("incarnation %d cannot join: it is here or closed", in.Incarnation)
	}
	s.learners[in.Incarnation] = &learner{incarnation: in.Incarnation, island: in.Island, tokens: in.Tokens}
	for p, f := range s.fragments {
		e := &entry{island: in.Island}
		if in.Positions != nil {
			e.merged, e.answered = in.Positions[p], in.Positions[p]
		}
		f.table[in.Incarnation] = e
	}
	return in.Island + " joined the exchange"
}

func (s *State) progress(in Progress, now time.Time) {
	l := s.learners[in.Incarnation]
	if l == nil || in.Tokens <= l.tokens {
		return
	}
	s.fleet, s.fleetAt = s.fleet+in.Tokens-l.tokens, now
	l.tokens = in.Tokens
}

// back repeats the calls that a learner has not answered: its stream broke and may
// have taken them along.
func (s *State) back(in Back) ([]Effect, string) {
	l := s.learners[in.Incarnation]
	if l == nil {
		return nil, ""
	}
	var effects []Effect
	for p, f := range s.fragments {
		if f.round != nil && f.awaits(in.Incarnation) {
			effects = append(effects, Call{in.Incarnation, p, f.round.number})
		}
	}
	return effects, fmt.Sprintf("%s is back, %d calls repeated", l.island, len(effects))
}

// close takes a learner out: rounds no longer wait for it, what it sent and is
// not being merged is forgotten, and the end of its incarnation is queued behind
// whatever of it is still being committed.
func (s *State) close(in Close) ([]Effect, string) {
	var effects []Effect
	island := ""
	if l := s.learners[in.Incarnation]; l != nil {
		island = l.island
	}
	delete(s.learners, in.Incarnation)
	s.closed.add(in.Incarnation)
	for p, f := range s.fragments {
		if c, ok := f.pending[in.Incarnation]; ok {
			delete(f.pending, in.Incarnation)
			effects = append(effects, Discard{Key{in.Incarnation, p, c.Sequence}})
		}
	}
	s.queue = append(s.queue, closeItem{in.Incarnation, island})
	return effects, fmt.Sprintf("incarnation %d is being closed", in.Incarnation)
}

// live lists the islands of the live learners, sorted.
func (s *State) live() []string {
	var names []string
	for _, l := range s.learners {
		names = append(names, l.island)
	}
	slices.Sort(names)
	return names
}

// incarnations lists the live incarnations in order.
func (s *State) incarnations() []uint64 { return slices.Sorted(maps.Keys(s.learners)) }

// positions of an incarnation over fragments: the highest that is merged and
// the lowest that is answered.
func (s *State) positions(incarnation uint64) (merged, answered int64) {
	answered = -1
	for _, f := range s.fragments {
		e := f.table[incarnation]
		if e == nil {
			return 0, 0
		}
		merged = max(merged, e.merged)
		if answered < 0 || e.answered < answered {
			answered = e.answered
		}
	}
	return merged, max(answered, 0)
}

func (s *State) resting() bool {
	if s.busy || len(s.queue) > 0 {
		return false
	}
	for _, f := range s.fragments {
		if f.round != nil || len(f.pending) > 0 {
			return false
		}
	}
	return true
}

// Version is the number of merges of fragment p.
func (s *State) Version(p int) uint64 { return s.fragments[p].version }

// Stamp is the number of tokens merged into fragment p.
func (s *State) Stamp(p int) int64 { return s.fragments[p].stamp }

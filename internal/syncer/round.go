package syncer

import (
	"fmt"
	"time"
)

// round is one call for a fragment. It ends when everybody who was called has
// answered, or when waiting longer would hold up the others.
type round struct {
	number   uint64
	openedAt time.Time
	fleet    int64           // fleet tokens when it was opened
	called   map[uint64]bool // true once it passed
}

// awaits: it was called and has neither sent nor passed.
func (f *fragment) awaits(incarnation uint64) bool {
	passed, called := f.round.called[incarnation]
	_, sent := f.pending[incarnation]
	return called && !passed && !sent
}

// openDue opens a round for every fragment whose period is over. Periods count
// fleet tokens: fast and slow learners send at the same time what they have.
//
// A contribution that came too late for its round waits for the next one, but not
// when none would come: its learner flushes, or nobody trains any more.
func (s *State) openDue(now time.Time) ([]Effect, string) {
	if s.paused {
		return nil, ""
	}
	var effects []Effect
	reason := ""
	for p, f := range s.fragments {
		why := s.due(f, now)
		if why == "" || f.round != nil || s.merging(p) {
			continue
		}
		for f.nextDue <= s.fleet {
			f.nextDue += s.cfg.PeriodTokens
		}
		effects = append(effects, s.open(p, now)...)
		reason = fmt.Sprintf("fragment %d %s", p, why)
	}
	return effects, reason
}

// due says why a round is to be opened, or nothing.
func (s *State) due(f *fragment, now time.Time) string {
	if s.fleet >= f.nextDue && len(s.learners) > 0 {
		return fmt.Sprintf("is due at %d fleet tokens", s.fleet)
	}
	for _, c := range f.pending {
		if c.Flush {
			return "is flushed"
		}
	}
	if n := len(f.pending); n > 0 && n == len(s.learners) {
		return "has what everybody sent late" // and whoever is strict trains no step before its verdict
	}
	if len(f.pending) > 0 && now.Sub(f.newestAt) >= s.cfg.MaxWait && s.stalled(now) {
		return fmt.Sprintf("has late contributions, and nobody has trained for %v", s.cfg.MaxWait)
	}
	return ""
}

// merging: a merge of the fragment is queued or under way. Its contributors have
// no verdict yet and could not answer a call.
func (s *State) merging(p int) bool {
	for _, it := range s.queue {
		if m, ok := it.(*mergeItem); ok && m.fragment == p {
			return true
		}
	}
	return false
}

// open calls every live learner that has nothing under way for the fragment.
func (s *State) open(p int, now time.Time) []Effect {
	f := s.fragments[p]
	f.rounds++
	f.round = &round{number: f.rounds, openedAt: now, fleet: s.fleet, called: map[uint64]bool{}}
	var effects []Effect
	for _, inc := range s.incarnations() {
		if _, under := f.pending[inc]; !under {
			f.round.called[inc] = false
			effects = append(effects, Call{inc, p, f.rounds})
		}
	}
	return effects
}

func (s *State) passed(in Passed) {
	if in.Fragment < 0 || in.Fragment >= len(s.fragments) {
		return
	}
	r := s.fragments[in.Fragment].round
	if r == nil || r.number != in.Round {
		return
	}
	if _, called := r.called[in.Incarnation]; called {
		r.called[in.Incarnation] = true
	}
}

// closeRounds queues the merge of every round that is complete or has waited
// long enough.
func (s *State) closeRounds(now time.Time) {
	for p, f := range s.fragments {
		if f.round == nil {
			if s.paused && len(f.pending) > 0 { // nobody will be called: merge what is here
				s.queueMerge(p)
			}
			continue
		}
		if s.complete(f) || s.waitedEnough(f, now) {
			f.round = nil
			s.queueMerge(p)
		}
	}
}

// complete: every live learner that was called has sent or passed.
func (s *State) complete(f *fragment) bool {
	for inc := range f.round.called {
		if s.learners[inc] != nil && f.awaits(inc) {
			return false
		}
	}
	return true
}

// waitedEnough: the quorum is there and the round is older than MaxWait or one
// period of fleet tokens. When nobody has trained for MaxWait whoever is there is
// enough: those who are missing may be waiting for this very merge.
func (s *State) waitedEnough(f *fragment, now time.Time) bool {
	if len(f.pending) == 0 {
		return false
	}
	late := now.Sub(f.round.openedAt) >= s.cfg.MaxWait
	if late && s.stalled(now) {
		return true
	}
	quorum := len(f.pending) >= min(s.cfg.Quorum, len(s.learners))
	return quorum && (late || s.fleet-f.round.fleet >= s.cfg.PeriodTokens)
}

// stalled: nobody has trained for MaxWait.
func (s *State) stalled(now time.Time) bool { return now.Sub(s.fleetAt) >= s.cfg.MaxWait }

// queueMerge moves what is pending into the queue, in order of incarnation.
func (s *State) queueMerge(p int) {
	f := s.fragments[p]
	if len(f.pending) == 0 {
		return
	}
	s.queue = append(s.queue, &mergeItem{fragment: p, parts: sortedPending(f.pending)})
	clear(f.pending)
}

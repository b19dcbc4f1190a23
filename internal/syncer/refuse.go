package syncer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// arrived is step 1 of the merge: refuse. A contribution is sent again when it
// was damaged, answered again when it is known, expelled when its life is over,
// refused when its content is wrong, dropped when it is too old, and pending
// otherwise. A live learner that does not keep to the protocol is shut out: sent away it
// would come back and do it again.
func (s *State) arrived(c Contribution, now time.Time) ([]Effect, string) {
	key := Key{c.Incarnation, c.Fragment, c.Sequence}
	if why := s.outsider(c); why != "" {
		effects := []Effect{Expel{c.Incarnation, why}}
		if !s.queued(key) { // what was sent before its end is merged all the same
			effects = append([]Effect{Discard{key}}, effects...)
		}
		return effects, "a contribution from outside: " + why
	}
	if c.Fragment < 0 || c.Fragment >= len(s.fragments) {
		return s.shutOut(key, fmt.Sprintf("fragment %d does not exist", c.Fragment))
	}
	l, f := s.learners[c.Incarnation], s.fragments[c.Fragment]
	e := f.table[c.Incarnation]
	if c.Sequence <= e.sequence {
		effects := []Effect{Discard{key}}
		if c.Sequence == e.sequence {
			effects = append(effects, Answer{key, e.ruling, e.reason})
			if e.ruling == RuledRefused { // the fragments that came with the answer were lost too
				effects = append(effects, Reseed{c.Incarnation})
			}
		}
		return effects, fmt.Sprintf("%s sent contribution %d of fragment %d again", l.island, c.Sequence, c.Fragment)
	}
	if under := s.underWay(c.Incarnation, c.Fragment); under == c.Sequence {
		return nil, "" // sent again before its verdict
	} else if under > 0 {
		return s.shutOut(key, fmt.Sprintf("contribution %d of fragment %d came before the verdict on %d", c.Sequence, c.Fragment, under))
	}
	if c.Flush {
		s.hurry(c.Incarnation)
	}
	if c.Damaged {
		return []Effect{Discard{key}, Answer{key, RuledResend, "its digest does not match"}}, l.island + ": damaged in transit"
	}
	if why := defect(c, e, f); why != "" {
		return s.rule(rulingItem{c, l.island, RuledRefused, why})
	}
	if c.Base+s.cfg.StaleVersions < f.version {
		return s.rule(rulingItem{c, l.island, RuledDropped,
			fmt.Sprintf("its base is version %d, the fragment is at %d (limit %d behind)", c.Base, f.version, s.cfg.StaleVersions)})
	}
	f.pending[c.Incarnation], f.newestAt = c, now
	return nil, ""
}

// outsider says why the sender has no business here, or nothing.
func (s *State) outsider(c Contribution) string {
	switch {
	case c.Era != s.cfg.Era:
		return fmt.Sprintf("era %d is over, this is era %d", c.Era, s.cfg.Era)
	case s.learners[c.Incarnation] == nil:
		return fmt.Sprintf("incarnation %d is closed", c.Incarnation)
	}
	return ""
}

// shutOut ends a learner for good that sends what the protocol does not allow.
func (s *State) shutOut(k Key, why string) ([]Effect, string) {
	return []Effect{Discard{k}, Quarantine{k.Incarnation, why}}, s.learners[k.Incarnation].island + " does not keep to the protocol: " + why
}

// rule queues a ruling. The round waits for this learner no longer: it has answered.
func (s *State) rule(it rulingItem) ([]Effect, string) {
	s.queue = append(s.queue, it)
	if r := s.fragments[it.part.Fragment].round; r != nil {
		s.passed(Passed{it.part.Incarnation, it.part.Fragment, r.number})
	}
	return []Effect{Discard{Key{it.part.Incarnation, it.part.Fragment, it.part.Sequence}}},
		fmt.Sprintf("%s %s for fragment %d: %s", it.island, it.ruling, it.part.Fragment, it.reason)
}

// hurry: a learner that flushes waits for everything it has sent.
func (s *State) hurry(incarnation uint64) {
	for _, f := range s.fragments {
		if c, ok := f.pending[incarnation]; ok {
			c.Flush = true
			f.pending[incarnation] = c
		}
	}
}

// defect says what is wrong with the content, or nothing.
func defect(c Contribution, e *entry, f *fragment) string {
	switch {
	case c.Defect != "":
		return c.Defect
	case c.Base > f.version:
		return fmt.Sprintf("its base is version %d, which does not exist yet (now %d)", c.Base, f.version)
	case c.FromPosition < e.merged:
		return fmt.Sprintf("it starts at sample position %d, but everything before %d is already in the fragment", c.FromPosition, e.merged)
	case c.ToPosition < c.FromPosition || c.ToStep < c.FromStep:
		return fmt.Sprintf("it ends before it begins (steps %d to %d, positions %d to %d)", c.FromStep, c.ToStep, c.FromPosition, c.ToPosition)
	case c.Withheld < 0 || c.Withheld > c.ToPosition-c.FromPosition:
		return fmt.Sprintf("it withheld %d samples of positions %d to %d", c.Withheld, c.FromPosition, c.ToPosition)
	case c.Tokens < 0:
		return fmt.Sprintf("it claims %d tokens", c.Tokens)
	}
	return ""
}

// underWay is the sequence number of the learner's contribution to the fragment
// that is pending or in the queue; 0 when there is none.
func (s *State) underWay(incarnation uint64, fragment int) uint64 {
	if c, ok := s.fragments[fragment].pending[incarnation]; ok {
		return c.Sequence
	}
	for _, it := range s.queue {
		if n := it.sequence(incarnation, fragment); n > 0 {
			return n
		}
	}
	return 0
}

// queued: this very contribution is in the queue.
func (s *State) queued(k Key) bool {
	for _, it := range s.queue {
		if k.Sequence > 0 && it.sequence(k.Incarnation, k.Fragment) == k.Sequence {
			return true
		}
	}
	return false
}

// note remembers whether the last contributions of a learner were refused and
// says whether it is to be shut out: RefusalLimit in RefusalWindow.
func (s *State) note(l *learner, refused bool) bool {
	l.recent = append(l.recent, refused)
	if over := len(l.recent) - s.cfg.RefusalWindow; over > 0 {
		l.recent = l.recent[over:]
	}
	n := 0
	for _, r := range l.recent {
		if r {
			n++
		}
	}
	return refused && n >= s.cfg.RefusalLimit
}

func sortedPending(pending map[uint64]Contribution) []Contribution {
	return slices.SortedFunc(maps.Values(pending), func(a, b Contribution) int { return cmp.Compare(a.Incarnation, b.Incarnation) })
}

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
// otherwise.
func (s *State) arrived(c Contribution, now time.Time) ([]Effect, string) {
	key := Key{c.Incarnation, c.Fragment, c.Sequence}
	l := s.learners[c.Incarnation]
	switch {
	case c.Era != s.cfg.Era:
		return []Effect{Discard{key}, Expel{c.Incarnation, fmt.Sprintf("era %d is over, this is era %d", c.Era, s.cfg.Era)}}, "old era"
	case l == nil:
		return []Effect{Discard{key}, Expel{c.Incarnation, fmt.Sprintf("incarnation %d is closed", c.Incarnation)}}, "closed incarnation"
	case c.Fragment < 0 || c.Fragment >= len(s.fragments):
		return []Effect{Discard{key}, Expel{c.Incarnation, fmt.Sprintf("fragment %d does not exist", c.Fragment)}}, "no such fragment"
	}
	f := s.fragments[c.Fragment]
	e := f.table[c.Incarnation]
	if c.Sequence <= e.sequence {
		effects := []Effect{Discard{key}}
		if c.Sequence == e.sequence {
			effects = append(effects, Answer{key, e.ruling, e.reason})
		}
		return effects, fmt.Sprintf("%s sent contribution %d of fragment %d again", l.island, c.Sequence, c.Fragment)
	}
	if s.underWay(key) {
		return nil, "" // the same contribution, sent again before its verdict
	}
	if c.Damaged {
		return []Effect{Discard{key}, Answer{key, RuledResend, "its digest does not match"}}, l.island + ": damaged in transit"
	}
	if why := defect(c, e, f); why != "" {
		s.queue = append(s.queue, rulingItem{c, l.island, RuledRefused, why})
		return []Effect{Discard{key}}, fmt.Sprintf("%s refused for fragment %d: %s", l.island, c.Fragment, why)
	}
	if c.Base+s.cfg.StaleVersions < f.version {
		why := fmt.Sprintf("its base is version %d, the fragment is at %d (limit %d behind)", c.Base, f.version, s.cfg.StaleVersions)
		s.queue = append(s.queue, rulingItem{c, l.island, RuledDropped, why})
		return []Effect{Discard{key}}, fmt.Sprintf("%s dropped for fragment %d: %s", l.island, c.Fragment, why)
	}
	f.pending[c.Incarnation] = c
	if c.Flush && f.round == nil && !s.paused && !s.merging(c.Fragment) {
		return s.open(c.Fragment, now), fmt.Sprintf("%s flushes fragment %d", l.island, c.Fragment)
	}
	return nil, ""
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
	case c.Tokens < 0:
		return fmt.Sprintf("it claims %d tokens", c.Tokens)
	}
	return ""
}

// underWay: the same contribution is pending or in the queue.
func (s *State) underWay(key Key) bool {
	if c, ok := s.fragments[key.Fragment].pending[key.Incarnation]; ok && c.Sequence == key.Sequence {
		return true
	}
	for _, it := range s.queue {
		if it.holds(key) {
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

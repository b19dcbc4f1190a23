package syncer

import (
	"fmt"
	"time"
)

// item is one thing that goes onto the group's tape. Items are committed one at
// a time, in order: that order is the order of the tape.
type item interface {
	// sequence is the number of the contribution of a learner to a fragment that
	// the item holds, or 0.
	sequence(incarnation uint64, fragment int) uint64
}

// mergeItem: contributions to merge into one fragment.
type mergeItem struct {
	fragment int
	parts    []Contribution
	live     []string // islands when the share was measured
	share    float64
	record   MergeRecord
	failed   string // the merge was computed and is not usable
}

// rulingItem: a contribution that is dropped or refused.
type rulingItem struct {
	part   Contribution
	island string
	ruling Ruling
	reason string
}

// closeItem: the end of an incarnation.
type closeItem struct {
	incarnation uint64
	island      string
}

// cutItem: the place of a checkpoint between two commits; nothing is recorded.
type cutItem struct{ checkpoint uint64 }

func (it *mergeItem) sequence(incarnation uint64, fragment int) uint64 {
	if it.fragment == fragment {
		for _, c := range it.parts {
			if c.Incarnation == incarnation {
				return c.Sequence
			}
		}
	}
	return 0
}

func (it rulingItem) sequence(incarnation uint64, fragment int) uint64 {
	if it.part.Incarnation == incarnation && it.part.Fragment == fragment {
		return it.part.Sequence
	}
	return 0
}

func (closeItem) sequence(uint64, int) uint64 { return 0 }
func (cutItem) sequence(uint64, int) uint64   { return 0 }

// advance starts the next item when nothing is under way.
func (s *State) advance(now time.Time) []Effect {
	var effects []Effect
	for !s.busy && len(s.queue) > 0 {
		switch it := s.queue[0].(type) {
		case cutItem:
			s.queue = s.queue[1:]
			effects = append(effects, Cut{it.checkpoint, s.Tables()})
		case closeItem:
			s.busy = true
			effects = append(effects, Commit{[]any{s.closedRecord(it, now)}})
		case rulingItem:
			s.busy = true
			effects = append(effects, Commit{[]any{s.rulingRecord(it, now)}})
		case *mergeItem:
			s.busy = true
			it.live = s.live()
			it.share = s.share(it)
			m := Merge{Fragment: it.fragment, Share: it.share}
			for _, c := range it.parts {
				m.Keys = append(m.Keys, Key{c.Incarnation, it.fragment, c.Sequence})
			}
			effects = append(effects, m)
		}
	}
	return effects
}

// merged: the computed merge is finite and goes onto the tape, or is dropped (S3).
func (s *State) merged(in Merged, now time.Time) ([]Effect, string) {
	it, ok := s.head().(*mergeItem)
	if !ok {
		return nil, ""
	}
	f := s.fragments[it.fragment]
	if !in.Finite {
		it.failed = "the merge is not finite"
		var records []any
		for _, c := range it.parts {
			records = append(records, s.rulingRecord(rulingItem{c, f.table[c.Incarnation].island, RuledDropped, it.failed}, now))
		}
		return []Effect{Commit{records}}, fmt.Sprintf("fragment %d: %s", it.fragment, it.failed)
	}
	it.record = MergeRecord{
		Kind: "merge", At: now, Era: s.cfg.Era, View: s.cfg.View, Fragment: it.fragment, Version: f.version + 1,
		Stamp: f.stamp + tokensOf(it.parts), Share: it.share, Norm: in.Norm, Digest: in.Digest, Live: it.live,
	}
	for _, c := range it.parts {
		it.record.Parts = append(it.record.Parts, partRecord(c, f.table[c.Incarnation].island))
	}
	return []Effect{Commit{[]any{it.record}}}, fmt.Sprintf("fragment %d: version %d from %d contributions, share %.2f", it.fragment, f.version+1, len(it.parts), it.share)
}

// committed: the head of the queue is on the tape; now it counts.
func (s *State) committed() ([]Effect, string) {
	head := s.head()
	if head == nil || !s.busy {
		return nil, ""
	}
	s.queue, s.busy = s.queue[1:], false
	switch it := head.(type) {
	case closeItem:
		merged, _ := s.positions(it.incarnation)
		for _, f := range s.fragments {
			delete(f.table, it.incarnation)
		}
		return []Effect{ClosedAt{it.incarnation, merged}}, fmt.Sprintf("incarnation %d is closed at sample position %d", it.incarnation, merged)
	case rulingItem:
		return s.ruled(it), ""
	case *mergeItem:
		if it.failed != "" {
			var effects []Effect
			for _, c := range it.parts {
				effects = append(effects, Discard{Key{c.Incarnation, it.fragment, c.Sequence}})
				effects = append(effects, s.ruled(rulingItem{c, "", RuledDropped, it.failed})...)
			}
			return effects, ""
		}
		return s.install(it), ""
	}
	return nil, ""
}

// install makes the merge the fragment's value and answers its contributors.
func (s *State) install(it *mergeItem) []Effect {
	f := s.fragments[it.fragment]
	f.version, f.stamp = it.record.Version, it.record.Stamp
	f.remember(it)
	done := Install{Fragment: it.fragment, Version: f.version, Stamp: f.stamp, Tokens: tokensOf(it.parts), Share: it.share}
	var answers []Effect
	for _, c := range it.parts {
		e := f.table[c.Incarnation]
		done.Islands = append(done.Islands, e.island)
		e.sequence, e.ruling, e.reason = c.Sequence, RuledMerged, ""
		e.merged, e.answered = c.ToPosition, c.ToPosition
		key := Key{c.Incarnation, it.fragment, c.Sequence}
		answers = append(answers, Discard{key})
		if l := s.learners[c.Incarnation]; l != nil { // else it has died meanwhile; its samples count all the same
			s.note(l, false)
			answers = append(answers, Answer{key, RuledMerged, ""})
		}
		merged, answered := s.positions(c.Incarnation)
		answers = append(answers, Consumed{c.Incarnation, merged, answered})
	}
	return append([]Effect{done}, answers...)
}

// ruled answers a contribution that was not merged.
func (s *State) ruled(it rulingItem) []Effect {
	f := s.fragments[it.part.Fragment]
	e, l := f.table[it.part.Incarnation], s.learners[it.part.Incarnation]
	if e == nil {
		return nil
	}
	e.sequence, e.ruling, e.reason = it.part.Sequence, it.ruling, it.reason
	e.answered = max(e.answered, it.part.ToPosition)
	if l == nil {
		return nil
	}
	merged, answered := s.positions(l.incarnation)
	effects := []Effect{
		Answer{Key{l.incarnation, it.part.Fragment, it.part.Sequence}, it.ruling, it.reason},
		Consumed{l.incarnation, merged, answered},
	}
	if s.note(l, it.ruling == RuledRefused) {
		return append(effects, Quarantine{l.incarnation, fmt.Sprintf("%d of its last %d contributions were refused; last: %s", s.cfg.RefusalLimit, len(l.recent), it.reason)})
	}
	if it.ruling == RuledRefused {
		effects = append(effects, Reseed{l.incarnation})
	}
	return effects
}

func (s *State) head() item {
	if len(s.queue) == 0 {
		return nil
	}
	return s.queue[0]
}

func (s *State) closedRecord(it closeItem, now time.Time) ClosedRecord {
	merged, _ := s.positions(it.incarnation)
	r := ClosedRecord{Kind: "incarnation_closed", At: now, Incarnation: it.incarnation, Island: it.island, Position: merged}
	for _, f := range s.fragments {
		if e := f.table[it.incarnation]; e != nil {
			r.Positions = append(r.Positions, e.merged)
		}
	}
	return r
}

func (s *State) rulingRecord(it rulingItem, now time.Time) RulingRecord {
	f := s.fragments[it.part.Fragment]
	return RulingRecord{string(it.ruling), now, it.part.Fragment, f.version, it.reason, partRecord(it.part, it.island)}
}

func partRecord(c Contribution, island string) PartRecord {
	return PartRecord{
		Island: island, Incarnation: c.Incarnation, Sequence: c.Sequence, Base: c.Base, FromStep: c.FromStep, ToStep: c.ToStep,
		FromPosition: c.FromPosition, ToPosition: c.ToPosition, Tokens: c.Tokens, Withheld: c.Withheld, Adoptions: c.Adoptions,
	}
}

func tokensOf(parts []Contribution) int64 {
	var n int64
	for _, c := range parts {
		n += c.Tokens
	}
	return n
}

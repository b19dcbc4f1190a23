package syncer

import (
	"maps"
	"slices"

	"github.com/mistura-project/mistura/internal/outer"
)

// Tables is the syncer's part of a checkpoint: everything but the tensors.
type Tables struct {
	Fleet     int64           `json:"fleet_tokens"`
	Fragments []FragmentTable `json:"fragments"`
}

// FragmentTable is one fragment at the cut.
type FragmentTable struct {
	Version  uint64         `json:"version"`
	Stamp    int64          `json:"stamp_tokens"`
	NextDue  int64          `json:"next_due_fleet_tokens"`
	Log      []outer.Merge  `json:"log"`
	Learners []LearnerEntry `json:"learners"`
}

// LearnerEntry is what a fragment knows of one incarnation that is live or being closed.
type LearnerEntry struct {
	Incarnation uint64 `json:"incarnation"`
	Island      string `json:"island"`
	Merged      int64  `json:"merged_sample_position"`
}

// Tables copies the state for a checkpoint.
func (s *State) Tables() Tables {
	t := Tables{Fleet: s.fleet}
	for _, f := range s.fragments {
		ft := FragmentTable{Version: f.version, Stamp: f.stamp, NextDue: f.nextDue, Log: append([]outer.Merge(nil), f.log...)}
		for _, inc := range slices.Sorted(maps.Keys(f.table)) {
			e := f.table[inc]
			ft.Learners = append(ft.Learners, LearnerEntry{inc, e.island, e.merged})
		}
		t.Fragments = append(t.Fragments, ft)
	}
	return t
}

// Restore begins a new era from a checkpoint: versions, stamps and logs go on,
// nobody has joined. fleet is the number of tokens that count as trained: what
// is in the model and what restored islands bring along. That may be less than at
// the cut, and the period may be another one: no fragment is due later than one
// period from here, or those who come back with fewer islands would run dry first.
func Restore(cfg Config, t Tables, fleet int64) *State {
	s := New(cfg)
	s.fleet = fleet
	for p, ft := range t.Fragments {
		f := s.fragments[p]
		f.version, f.stamp, f.log = ft.Version, ft.Stamp, append([]outer.Merge(nil), ft.Log...)
		f.nextDue = ft.NextDue
		if f.nextDue > fleet+cfg.PeriodTokens {
			f.nextDue = fleet + stagger(cfg, p)
		}
		for f.nextDue <= fleet {
			f.nextDue += cfg.PeriodTokens
		}
	}
	return s
}

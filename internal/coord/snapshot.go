package coord

import (
	"maps"
	"math"
	"slices"
)

// Snapshot is the coordinator's part of a checkpoint.
type Snapshot struct {
	Next        int64            `json:"next_sample"`
	Total       int64            `json:"total_samples"`
	Returned    []Range          `json:"returned"`
	Retries     []Range          `json:"retries,omitempty"` // withheld steps that wait to go out again
	Withheld    int              `json:"withheld_steps,omitempty"`
	Skipped     []Range          `json:"skipped,omitempty"` // samples that the run leaves out
	Consumed    int64            `json:"consumed_samples"`  // by closed incarnations
	Incarnation uint64           `json:"last_incarnation"`
	Checkpoint  uint64           `json:"checkpoint"`
	Members     []MemberSnapshot `json:"members"`
}

// MemberSnapshot is one live incarnation at the cut. Positions count from the
// first sample it was ever given.
type MemberSnapshot struct {
	Incarnation uint64  `json:"incarnation"`
	Island      string  `json:"island"`
	Base        int64   `json:"base,omitempty"` // position of the first sample of Leases
	Leases      []Range `json:"leases"`
	Committed   int64   `json:"committed_samples"`
	Answered    int64   `json:"answered_samples"`
	Captured    int64   `json:"captured_samples"`   // position of its saved state; -1 none
	Holes       []Range `json:"withheld,omitempty"` // positions of steps that were not applied

	Carried bool `json:"-"` // its state is that of the checkpoint before: it has not begun with it
}

// Snapshot copies the state for a checkpoint.
func (s *State) Snapshot() Snapshot {
	out := Snapshot{
		Next: s.pool.next, Total: s.cfg.TotalSamples, Returned: slices.Clone(s.pool.returned), Retries: slices.Clone(s.pool.retries),
		Withheld: s.withheld, Skipped: slices.Clone(s.skipped), Consumed: s.consumed, Incarnation: s.incarnation, Checkpoint: s.save.number,
	}
	for _, m := range s.ordered() {
		captured, carried := m.captured, m.carried()
		if carried {
			captured = m.seed.Position
		}
		out.Members = append(out.Members, MemberSnapshot{
			m.incarnation, m.island, m.lease.base, slices.Clone(m.lease.ranges), m.committed, m.answered, captured, slices.Clone(m.holes), carried,
		})
	}
	return out
}

func (m MemberSnapshot) lease() lease {
	return lease{base: m.Base, end: m.Base + length(m.Leases), ranges: m.Leases}
}

// Past is what a new era knows of the eras before beside the checkpoint: a rollback
// must not be forgotten with what it undid.
type Past struct {
	Rollbacks int
	Skipped   []Range
	Uses      map[string]int // of limited join strings
}

// Restore begins a new era from a checkpoint. seeds are the islands whose own
// state is taken over; what the others had not committed goes back to the pool.
// The seed's Position is never below Committed, so no sample can get into one
// fragment twice (S2). The goal may differ from the checkpoint's. An empty snapshot is
// the beginning of the run.
func Restore(cfg Config, snap Snapshot, seeds map[string]Seed, past Past) *State {
	s := New(cfg)
	s.pool = pool{
		returned: slices.Clone(snap.Returned), retries: slices.Clone(snap.Retries), next: snap.Next, total: max(cfg.TotalSamples, snap.Next),
	}
	s.withheld, s.skipped, s.rollbacks = snap.Withheld, slices.Clone(snap.Skipped), past.Rollbacks
	_, s.pool.ahead = cut(s.skipped, Range{From: snap.Next, To: math.MaxInt64})
	s.consumed, s.incarnation, s.save.number = snap.Consumed, snap.Incarnation, snap.Checkpoint
	for _, m := range snap.Members {
		seed, kept := seeds[m.Island]
		if kept && cfg.Open && s.slots[m.Island] == nil {
			s.slots[m.Island], s.outside = &slot{outside: true}, append(s.outside, m.Island)
		}
		keep := m.Committed
		if kept = kept && s.slots[m.Island] != nil; kept {
			keep = seed.Position
			s.seeds[m.Island] = seed
		} else {
			s.consumed += m.Committed - holed(m.Holes, m.Committed)
		}
		held := m.lease()
		s.pool.give(held.applied(keep, m.Holes))
	}
	s.avoid = past.Skipped
	maps.Copy(s.uses, past.Uses)
	s.leaveOut()
	s.pool.pass()
	consumed, leased, pooled := s.Account()
	s.pool.withheld = min(max(consumed+leased+pooled+length(s.skipped)-cfg.TotalSamples, 0), length(s.pool.returned))
	s.save.consumed = consumed
	return s
}

// SeedOf makes the seed of a member whose saved state is usable, that is when
// it was captured at all.
func SeedOf(m MemberSnapshot) (Seed, bool) {
	if m.Captured < 0 {
		return Seed{}, false
	}
	held, position := m.lease(), max(m.Captured, m.Committed)
	holes, _ := split(m.Holes, holed(m.Holes, position))
	return Seed{Base: held.base, Leases: held.until(position), Position: position, Committed: m.Committed, Answered: m.Answered, Holes: holes}, true
}

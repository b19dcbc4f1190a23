package coord

import "slices"

// Snapshot is the coordinator's part of a checkpoint.
type Snapshot struct {
	Next        int64            `json:"next_sample"`
	Total       int64            `json:"total_samples"`
	Returned    []Range          `json:"returned"`
	Consumed    int64            `json:"consumed_samples"` // by closed incarnations
	Incarnation uint64           `json:"last_incarnation"`
	Checkpoint  uint64           `json:"checkpoint"`
	Members     []MemberSnapshot `json:"members"`
}

// MemberSnapshot is one live incarnation at the cut.
type MemberSnapshot struct {
	Incarnation uint64  `json:"incarnation"`
	Island      string  `json:"island"`
	Leases      []Range `json:"leases"`
	Committed   int64   `json:"committed_samples"`
	Captured    int64   `json:"captured_samples"` // position of its saved state; -1 none
}

// Snapshot copies the state for a checkpoint.
func (s *State) Snapshot() Snapshot {
	out := Snapshot{
		Next: s.pool.next, Total: s.pool.total, Returned: slices.Clone(s.pool.returned), Consumed: s.consumed,
		Incarnation: s.incarnation, Checkpoint: s.save.number,
	}
	for _, m := range s.ordered() {
		out.Members = append(out.Members, MemberSnapshot{m.incarnation, m.island, slices.Clone(m.leases), m.committed, m.captured})
	}
	return out
}

// Restore begins a new era from a checkpoint. seeds are the islands whose own
// state is taken over; what the others had not committed goes back to the pool.
// The seed's Position is never below Committed, so no sample can get into one
// fragment twice (S2).
func Restore(cfg Config, snap Snapshot, seeds map[string]Seed) *State {
	s := New(cfg)
	s.pool = pool{returned: slices.Clone(snap.Returned), next: snap.Next, total: cfg.TotalSamples}
	s.consumed, s.incarnation, s.save.number = snap.Consumed, snap.Incarnation, snap.Checkpoint
	for _, m := range snap.Members {
		seed, kept := seeds[m.Island]
		keep := m.Committed
		if kept {
			keep = seed.Position
			s.seeds[m.Island] = seed
		}
		used, rest := split(m.Leases, keep)
		s.pool.give(rest)
		if !kept {
			s.consumed += length(used)
		}
	}
	s.save.consumed = s.Consumed()
	for _, seed := range s.seeds {
		s.save.consumed += seed.Committed
	}
	return s
}

// SeedOf makes the seed of a member whose saved state is usable, that is when
// it was captured at all.
func SeedOf(m MemberSnapshot) (Seed, bool) {
	if m.Captured < 0 {
		return Seed{}, false
	}
	position := max(m.Captured, m.Committed)
	used, _ := split(m.Leases, position)
	return Seed{Leases: used, Position: position, Committed: m.Committed}, true
}

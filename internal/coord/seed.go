package coord

import "time"

// SeedOffers is how many incarnations of an island may fail to take its saved state over
// before the next begins from the model: a stream that breaks in the wrong moment must not cost
// the state, and one that cannot be read must not keep the island out.
const SeedOffers = 3

// NotRestoredRecord: the saved state of an island was taken over by nobody. What the model
// does not have of it is trained again.
type NotRestoredRecord struct {
	Kind        string    `json:"kind"` // "not_restored"
	At          time.Time `json:"at"`
	Incarnation uint64    `json:"incarnation"` // the last that was to take it over
	Island      string    `json:"island"`
	Offers      int       `json:"offers"` // incarnations that were
	Why         string    `json:"why"`
}

// Restored: the ranks of a restored island have its saved state. Those of a trainer may take
// it over at their first step only, when the island is ready.
type Restored struct{ Incarnation uint64 }

func (Restored) isInput() {}

// holdsSeed: the member was launched with a saved state and has not begun with it.
func (m *member) holdsSeed() bool {
	early := m.phase == launched || m.phase == joined || !m.took
	return m.restored && early && m.committed == m.brought
}

// carried: its saved state is in a checkpoint that is cut now as it was, for it has not begun with
// it, or has ended without and its successor is to.
func (m *member) carried() bool {
	switch m.phase {
	case launched, joined:
		return m.restored
	case closing:
		return m.again && m.committed == m.brought
	}
	return false
}

// offers says whether the seed of a member that ends goes to its successor. Nobody who is
// awaited has failed.
func (s *State) offers(m *member) bool {
	sl := s.slots[m.island]
	return !m.awaited && !m.futile && !s.finished() && !sl.shut && sl.offered < SeedOffers && (sl.outside || sl.barren < s.cfg.Restarts)
}

// offer gives a member's seed to the next incarnation, which is launched, or else awaited: in an
// era that ends its state goes along to the next one.
func (s *State) offer(m *member, now time.Time) []Effect {
	s.seeds[m.island] = m.seed
	if !s.slots[m.island].outside && !s.stopping {
		return s.launch(m.island, now)
	}
	next, effects := s.incarnate(m.island, now)
	next.awaited = true
	return effects
}

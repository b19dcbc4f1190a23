package serve

import (
	"cmp"
	"maps"
	"slices"

	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// savedStates are the islands' own states in the newest whole checkpoint.
type savedStates struct {
	number  uint64
	islands map[string]SavedPart
}

// peer is the island whose moments a joiner takes: the one of its own name, whose trainer may have
// saved them itself, or else the one that had trained most; of equals the first by name. Empty: nobody has any.
func (s *savedStates) peer(island string) string {
	if s == nil {
		return ""
	}
	rank := func(name string) (own int, position uint64) {
		if name == island {
			own = 1
		}
		return own, s.islands[name].Position
	}
	best := ""
	for _, name := range slices.Sorted(maps.Keys(s.islands)) {
		if saved := s.islands[name]; !saved.hasMoments() && (name != island || len(saved.Files) == 0) {
			continue
		}
		if best == "" {
			best = name
			continue
		}
		own, position := rank(name)
		bestOwn, bestPosition := rank(best)
		if cmp.Or(cmp.Compare(own, bestOwn), cmp.Compare(position, bestPosition)) > 0 {
			best = name
		}
	}
	return best
}

// hasMoments: both, for an optimizer that has one of them only is not Adam.
func (p SavedPart) hasMoments() bool {
	has := func(slot string) bool {
		return slices.ContainsFunc(p.Slots, func(s SavedSlot) bool { return s.Slot == slot })
	}
	return has("moment1") && has("moment2")
}

// momentsFor is what a joiner takes of a peer's saved state, nil where it starts with none; mu of offers is held.
func (h *host) momentsFor(incarnation uint64) *wire.IslandState {
	saved := h.offers.newest
	peer := saved.peer(h.crew.island(incarnation))
	if peer == "" || h.run.Exchange.JoinerMoments != runfile.PeerMoments {
		return nil
	}
	part, island := saved.islands[peer], h.crew.island(incarnation)
	state := &wire.IslandState{Object: store.PartName(saved.number, islandPart(peer)), Digest: part.Digest, MomentsOnly: true, Parts: hostParts(saved.number, peer, part)}
	if peer == island {
		state.Files = part.files(h.store.Location())
	}
	h.offers.brought[incarnation] = restore{state: state, saved: part, peer: peer, number: saved.number}
	return state
}

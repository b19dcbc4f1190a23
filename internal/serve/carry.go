package serve

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/wire"
)

// offers are the saved states that islands take over in this era. What is on offer is carried
// from checkpoint to checkpoint as it is, and no checkpoint is pruned of which somebody may be
// reading.
type offers struct {
	mu       sync.Mutex
	restores map[string]restore // by island, until it has taken it over or nobody will
	brought  map[uint64]restore // by incarnation that was admitted with it
	newest   *savedStates       // nil: there is no checkpoint yet
}

func newOffers() *offers {
	return &offers{restores: map[string]restore{}, brought: map[uint64]restore{}}
}

// of is the restore with which an incarnation was admitted.
func (o *offers) of(incarnation uint64) (restore, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.brought[incarnation]
	return r, ok
}

// taken: the incarnation has what it was admitted with.
func (o *offers) taken(incarnation uint64, island string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.brought[incarnation]
	r.taken = true
	o.brought[incarnation] = r
	if r.peer == "" {
		delete(o.restores, island)
	}
}

// over: the incarnation has ended.
func (o *offers) over(incarnation uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.brought, incarnation)
}

// withdraw: nobody will take over the state of an island.
func (o *offers) withdraw(island string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.restores, island)
}

// waiting is what an island is to take over.
func (o *offers) waiting(island string) (restore, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.restores[island]
	return r, ok
}

// saved notes the newest whole checkpoint, which has what was carried into it, and says of which
// others somebody may still read.
func (o *offers) saved(number uint64, islands map[string]SavedPart, folder string) (inUse []uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newest = &savedStates{number, islands}
	for island, r := range o.restores {
		if part, ok := islands[island]; ok && part.carried {
			o.restores[island] = r.in(number, island, part, folder)
		}
	}
	for r := range maps.Values(o.restores) {
		inUse = append(inUse, r.number)
	}
	for r := range maps.Values(o.brought) {
		if !r.taken {
			inUse = append(inUse, r.number)
		}
	}
	slices.Sort(inUse)
	return slices.Compact(inUse)
}

// in is the same state in another checkpoint.
func (r restore) in(number uint64, island string, part SavedPart, folder string) restore {
	r.number, r.saved = number, part
	r.state = &wire.IslandState{
		Object: store.PartName(number, islandPart(island)), Digest: part.Digest, Position: r.state.Position, Committed: r.state.Committed, Withheld: r.state.Withheld,
		Keep: r.state.Keep, Files: part.files(folder), Parts: hostParts(number, island, part),
	}
	return r
}

// carry takes states into a cut that their islands have not begun with: as they were saved, under the
// incarnation that waits for them, with what the groups had merged of each.
func (c *cutState) carry(members []coord.MemberSnapshot, o *offers) {
	for _, m := range members {
		r, ok := o.waiting(m.Island)
		if !m.Carried || !ok {
			continue
		}
		part := r.saved
		part.Incarnation, part.carried = m.Incarnation, true
		c.carried[m.Island], c.meta.Islands[m.Island] = r.number, part
		for p := range c.tables.Fragments {
			f := &c.tables.Fragments[p]
			known := slices.ContainsFunc(f.Learners, func(e syncer.LearnerEntry) bool { return e.Incarnation == m.Incarnation })
			if !known && p < len(r.positions) {
				f.Learners = append(f.Learners, syncer.LearnerEntry{Incarnation: m.Incarnation, Island: m.Island, Merged: r.positions[p]})
			}
		}
	}
}

// copyCarried gives the objects of carried states their names in this checkpoint. A state that is gone
// has no part in it.
func (c *cutState) copyCarried(ctx context.Context, st store.Store) error {
	for island, from := range c.carried {
		part := c.meta.Islands[island]
		objects := part.objects(island)
		files := slices.Clone(part.Files)
		for i, f := range files {
			if name, within := strings.CutPrefix(f.Path, store.PartName(from, "")); within {
				objects, files[i].Path = append(objects, name), store.PartName(c.number, name)
			}
		}
		gone, err := c.copyFrom(ctx, st, from, objects)
		if err != nil {
			return err
		}
		if part.Files = files; gone == "" {
			c.meta.Islands[island] = part
		} else {
			c.absent = append(c.absent, gone+notHere)
			delete(c.meta.Islands, island)
		}
		delete(c.carried, island)
	}
	return nil
}

// copyFrom copies parts of another checkpoint, or names the first that is not there.
func (c *cutState) copyFrom(ctx context.Context, st store.Store, from uint64, parts []string) (gone string, err error) {
	for _, part := range parts {
		err := store.Copy(ctx, st, store.PartName(from, part), store.PartName(c.number, part))
		if errors.Is(err, store.ErrNotFound) {
			return store.PartName(from, part), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// objects are what the hosts of an island have written.
func (p SavedPart) objects(island string) []string {
	out := []string{islandPart(island)}
	for _, h := range p.Hosts {
		out = append(out, hostPart(island, h.Host))
	}
	return out
}

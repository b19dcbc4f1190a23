package serve

import (
	"context"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// gather takes the digests of states that several hosts have written: none of them has seen all
// of its island's. A state that does not come together has no part in the checkpoint.
func (c *cutState) gather(ctx context.Context, st store.Store, table []model.Tensor) error {
	for island, p := range c.meta.Islands {
		if !slices.ContainsFunc(p.Slots, func(s SavedSlot) bool { return s.Digest == "" }) || len(p.Hosts) == 0 {
			continue
		}
		slots, err := c.gatherSlots(ctx, st, island, p, table)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			c.absent = append(c.absent, fmt.Sprintf("what the hosts of island %s have written does not come together (%v)", island, err))
			delete(c.meta.Islands, island)
		default:
			p.Slots = slots
			c.meta.Islands[island] = p
		}
	}
	return nil
}

// gatherSlots are a state's slots with their digests.
func (c *cutState) gatherSlots(ctx context.Context, st store.Store, island string, p SavedPart, table []model.Tensor) (slots []SavedSlot, err error) {
	boxes := gathered.Boxes{}
	for _, part := range p.objects(island) {
		object := store.PartName(c.number, part)
		f, size, err := st.Open(ctx, object)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // it is read only
		r, err := store.OpenSafetensors(f, size)
		if err == nil {
			err = boxes.Add(r, object)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", object, err)
		}
	}
	for _, s := range p.Slots {
		if s.Digest, err = boxes.Digest(s.Slot, table); err != nil {
			return nil, err
		}
		slots = append(slots, s)
	}
	return slots, nil
}

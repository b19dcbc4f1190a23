package island

import (
	"context"
	"errors"
	"fmt"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// boxed makes a box of a slot's tensor a tensor of the file.
func boxed(slot string, t model.Tensor, box layout.Box, number int, values []float32) (store.Tensor, gathered.Mark) {
	mark := gathered.Mark{Name: fmt.Sprintf("%s.%s#%d", slot, t.Name, number), Tensor: slot + "." + t.Name, Offset: box.Offset, Extent: box.Extent}
	return store.Tensor{Name: mark.Name, Shape: []int{box.Size()}, F32: values}, mark
}

// addParts opens what further hosts have written, and notes all boxes.
func (f *stateFile) addParts(ctx context.Context, st store.Store, s *wire.IslandState) error {
	if err := f.boxes.Add(f.Reader, s.Object); err != nil {
		return err
	}
	for _, part := range s.Parts {
		file, size, err := st.Open(ctx, part.Object)
		if err != nil {
			return fmt.Errorf("opening the saved state: %w", err)
		}
		before := f.close
		f.close = func() error { return errors.Join(file.Close(), before()) }
		r, err := checkedReader(ctx, st, part.Object, part.Digest, file, size)
		if err != nil {
			return err
		}
		if err := f.boxes.Add(r, part.Object); err != nil {
			return err
		}
	}
	return nil
}

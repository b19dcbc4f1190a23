package island

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// The hosts of an island that spans several write what their ranks hold, each a file of
// its own: a box of a tensor is a tensor of the file, and boxesKey of its metadata says
// which. Whoever loads such a state reads all files and puts the tensors together.
const boxesKey = "boxes"

// boxMark says in the file's metadata of which tensor a box is.
type boxMark struct {
	Name   string `json:"name"` // in the file
	Tensor string `json:"tensor"`
	Offset []int  `json:"offset"`
	Extent []int  `json:"extent"`
}

// storedBox is a box that is in a file.
type storedBox struct {
	reader *store.Reader
	name   string
	box    layout.Box
}

// boxed makes a box of a slot's tensor a tensor of the file.
func boxed(slot string, t model.Tensor, box layout.Box, number int, values []float32) (store.Tensor, boxMark) {
	mark := boxMark{Name: fmt.Sprintf("%s.%s#%d", slot, t.Name, number), Tensor: slot + "." + t.Name, Offset: box.Offset, Extent: box.Extent}
	return store.Tensor{Name: mark.Name, Shape: []int{box.Size()}, F32: values}, mark
}

// addParts opens what further hosts have written, and notes all boxes.
func (f *stateFile) addParts(ctx context.Context, st store.Store, s *wire.IslandState) error {
	if err := f.note(f.Reader, s.Object); err != nil {
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
		if err := f.note(r, part.Object); err != nil {
			return err
		}
	}
	return nil
}

// note lists the boxes of a file.
func (f *stateFile) note(r *store.Reader, object string) error {
	text, there := r.Meta()[boxesKey]
	if !there {
		return nil
	}
	var marks []boxMark
	if err := json.Unmarshal([]byte(text), &marks); err != nil {
		return fmt.Errorf("reading the boxes of %s: %w", object, err)
	}
	if f.boxes == nil {
		f.boxes = map[string][]storedBox{}
	}
	for _, m := range marks {
		f.boxes[m.Tensor] = append(f.boxes[m.Tensor], storedBox{r, m.Name, layout.Box{Offset: m.Offset, Extent: m.Extent}})
	}
	return nil
}

// assemble puts a tensor together. Boxes do not overlap, as was checked when they were
// written; they must be all of it.
func assemble(name string, boxes []storedBox, shape []int, dst []float32) error {
	whole := model.Tensor{Name: name, Shape: shape}
	filled := 0
	for _, b := range boxes {
		if err := layout.Check(whole, b.box); err != nil {
			return err
		}
		values := make([]float32, b.box.Size())
		if err := b.reader.ReadF32(b.name, values); err != nil {
			return err
		}
		scatterBox(dst, whole, b.box, values)
		filled += len(values)
	}
	if filled != len(dst) {
		return fmt.Errorf("tensor %s: the hosts' files hold %d of its %d elements", name, filled, len(dst))
	}
	return nil
}

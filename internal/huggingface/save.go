package huggingface

import (
	"context"
	"errors"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// Meta stands in the manifest of an imported checkpoint: what of a run's it can know.
type Meta struct {
	Model        model.Config `json:"model"`
	Tokens       int64        `json:"tokens"`        // trained by us: none
	SampleTokens int          `json:"sample_tokens"` // the longest text that it was made for; 0: not known
	Origin       Origin       `json:"origin"`
}

// importedNumber is the number of a checkpoint in a folder of its own.
const importedNumber = 1

// Bytes is what Save writes, but for the manifest.
func (d *Folder) Bytes() (int64, error) { return store.StreamsSize(d.Tensors(), nil) }

// Save writes the model as a checkpoint in an empty store. What fails leaves none.
func (d *Folder) Save(ctx context.Context, st store.Store, part string) (store.Checkpoint, error) {
	c, err := d.save(ctx, st, part, d.Tensors())
	var in *fault.Input
	if errors.As(err, &in) {
		return c, in // it says all there is to say
	}
	return c, err
}

func (d *Folder) save(ctx context.Context, st store.Store, part string, tensors []store.Stream) (store.Checkpoint, error) {
	full := func(_ context.Context, _ int, full error) error { return full } // nobody waits for space
	return store.Save(ctx, st, importedNumber, func(ctx context.Context, w *store.Writer) (any, error) {
		meta := Meta{Model: d.Config, SampleTokens: d.Positions, Origin: d.Origin()}
		return meta, w.Streams(ctx, part, tensors, nil)
	}, full)
}

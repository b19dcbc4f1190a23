package store

import (
	"context"
	"errors"
	"fmt"
)

// Save makes checkpoint number: build writes the parts and gives the meta for the
// manifest, then Save commits. If the store is full it deletes what it has written,
// calls hold and tries again from the beginning; the checkpoints that are there
// stay. So build must write the same captured state each time.
//
// hold waits before attempt 2, 3 … and may report full, the error, to the user; an
// error of its own ends the attempt. All other errors of build and of the store end
// the save; what was written is deleted as far as possible and is no checkpoint.
func Save(
	ctx context.Context, st Store, number uint64,
	build func(ctx context.Context, w *Writer) (meta any, err error),
	hold func(ctx context.Context, attempt int, full error) error,
) (Checkpoint, error) {
	for attempt := 2; ; attempt++ {
		c, err := saveOnce(ctx, st, number, build)
		if err == nil || !errors.Is(err, ErrFull) {
			return c, err
		}
		if holdErr := hold(ctx, attempt, err); holdErr != nil {
			return Checkpoint{}, fmt.Errorf("save checkpoint %d: gave up (%w) after: %w", number, holdErr, err)
		}
	}
}

func saveOnce(
	ctx context.Context, st Store, number uint64, build func(ctx context.Context, w *Writer) (any, error),
) (Checkpoint, error) {
	w, err := Begin(ctx, st, number)
	if err != nil {
		return Checkpoint{}, err
	}
	meta, err := build(ctx, w)
	if err == nil {
		var c Checkpoint
		if c, err = w.Commit(ctx, meta); err == nil {
			return c, nil
		}
	}
	// Also when ctx is over: half a save should not lie about.
	if abandonErr := w.Abandon(context.WithoutCancel(ctx)); abandonErr != nil {
		err = errors.Join(err, abandonErr)
	}
	return Checkpoint{}, err
}

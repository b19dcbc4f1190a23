package engine

import (
	"context"
	"errors"
	"fmt"
)

// Logits reads tokens one by one and hands out what the model makes of each: the
// logits of the token behind it, [V], valid until emit returns. It goes the way of
// Generate.
func (e *Engine) Logits(ctx context.Context, tokens []int32, emit func(logits []float32) error) error {
	if len(tokens) == 0 {
		return errors.New("there are no tokens; give at least one")
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= e.cfg.Vocab {
			return fmt.Errorf("token %d at index %d is outside the vocabulary of %d", t, i, e.cfg.Vocab)
		}
	}
	d := newDecoder(e, len(tokens))
	for i, t := range tokens {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.step(t, i)
		if err := emit(d.logits()); err != nil {
			return err
		}
	}
	return nil
}

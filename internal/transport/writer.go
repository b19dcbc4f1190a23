package transport

import (
	"fmt"
	"slices"
	"time"
)

// writer empties an outbox into a stream.
type writer struct {
	box      *outbox
	chunkTag byte
	send     func(any) error
	stall    *time.Timer // fires when one frame takes too long; owned by run
	patience time.Duration
	moved    func() // told of each chunk that was taken; nil: nobody asks
}

// newWriter prepares a writer; onStall is called from a timer when the other
// side takes no frame for patience.
func newWriter(box *outbox, d direction, send func(any) error, patience time.Duration, onStall func()) *writer {
	t := time.AfterFunc(patience, onStall)
	t.Stop()
	return &writer{box: box, chunkTag: d.chunkTag, send: send, stall: t, patience: patience}
}

// run sends until the queue is closed and drained (nil), stop is closed (nil) or the stream fails.
func (w *writer) run(stop <-chan struct{}) error {
	for {
		it, ok := w.box.take(stop)
		if !ok {
			return nil
		}
		if err := w.write(it); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		w.box.sent(it)
	}
}

// write sends one message: its head, then its payload in chunks.
func (w *writer) write(it item) error {
	it.seal()
	if err := w.frame(it.head); err != nil {
		return err
	}
	for part := range slices.Chunk(it.payload, ChunkBytes) {
		if err := w.frame(chunk{tag: w.chunkTag, data: part}); err != nil {
			return err
		}
		if w.moved != nil {
			w.moved()
		}
	}
	return nil
}

// frame sends one frame under the stall timer.
func (w *writer) frame(v any) error {
	w.stall.Reset(w.patience)
	defer w.stall.Stop()
	return w.send(v)
}

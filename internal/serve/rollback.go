package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
)

// rollBack opens the era behind one that the coordinator has rolled back: as a resume
// does, from the newest whole checkpoint, or from the beginning before there is one.
// Incarnations go on from those of the era before, so that none means two lives to
// whoever looks on.
func (op *opened) rollBack(ctx context.Context) (*opened, error) {
	next := &opened{
		run: op.run, runID: op.runID, store: op.store, corpus: op.corpus, dataDir: op.dataDir, kernel: op.kernel, authority: op.authority, outside: op.outside, listening: op.listening, public: op.public,
		offers: newOffers(), captures: map[uint64]*captured{}, incarnation: op.coord.Incarnation(), release: op.release,
	}
	next.bank = next.newBank()
	err := next.resume(ctx)
	if errors.Is(err, store.ErrNoCheckpoint) {
		err = next.restart(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("rolling the run back: %w", err)
	}
	return next, nil
}

// restart is an era that begins with fresh weights: everything before is undone.
func (op *opened) restart(ctx context.Context) error {
	lost, last, past, err := op.closeEras(ctx, syncer.Tables{Fragments: make([]syncer.FragmentTable, len(op.bank.fragments))})
	if err != nil {
		return err
	}
	number, err := store.NextNumber(ctx, op.store)
	if err != nil {
		return err
	}
	op.era = last + 1
	params := make([]float32, op.run.Size())
	w, err := op.firstWeights(ctx, params)
	if err != nil {
		return err
	}
	op.bank.load(params, make([]float32, len(params)))
	op.coord = coord.Restore(op.coordConfig(), coord.Snapshot{Incarnation: op.incarnation, Checkpoint: number - 1}, nil, past)
	op.sync = syncer.New(op.syncConfig())
	op.tellUndone(lost)
	return op.openTapes(ctx, eraRecord{Undone: lost, Weights: w.digest, Casts: w.casts})
}

// rolledBack tells the listeners where the run goes on.
func (h *host) rolledBack(why string) {
	h.tokens = h.consumed()
	h.emit(ledger.RolledBack{
		At: time.Now(), Era: h.era, Rollbacks: h.coord.Rollbacks(), Reason: why, Checkpoint: h.fromCheckpoint,
		Tokens: h.tokens, Skipped: samplesOf(h.coord.Skipped()),
	})
	h.tellNotes()
}

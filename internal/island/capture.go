package island

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// capture has the learner's state copied when it was asked to and nothing is under
// way; writing goes on in the background.
func (r *runner) capture(ctx context.Context) {
	ask := r.captureAsked
	if ask == nil {
		return
	}
	for _, f := range r.learner.fragments {
		if f.flight != nil {
			return // at a later boundary
		}
	}
	r.captureAsked = nil
	done := &wire.Captured{Checkpoint: ask.Checkpoint, Position: uint64(r.learner.position)}
	for _, f := range r.learner.fragments {
		done.AnchorVersions = append(done.AnchorVersions, f.version)
	}
	r.learner.capture(ask.Checkpoint, folderFor(r.store, ask.Object), func(c *capture, err error) {
		if err != nil {
			done.Reason = err.Error()
			r.log.Error("state_not_captured", "err", err)
		}
		r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Captured{Captured: done}}, nil)
		if err == nil {
			r.saving.Go(func() {
				r.stored.Store(c.keep(ctx, r.store, r.log, r.layout, ask))
				c.release()
				r.sayStored()
			})
		}
	})
}

// sayStored tells where the last captured state is; said again after a broken stream.
func (r *runner) sayStored() {
	if s := r.stored.Load(); s != nil {
		r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Stored{Stored: s}}, nil)
	}
}

// capture is a copy of a learner's own state at a step boundary with nothing
// under way. Anchors are not in it: they are the syncer's fragments at Versions,
// which the same checkpoint holds.
type capture struct {
	tensors  []store.Tensor
	boxes    []gathered.Mark // of tensors that are boxes; nil: all are whole
	slots    []string        // of the island, where they are boxes
	counters counters
	release  func() // the tensors are not needed any more

	checkpoint uint64
	folder     string // where the trainer puts what it saves itself
	awaitFiles func(context.Context) ([]*wire.StateFile, error)
	files      []*wire.StateFile // that it saved
}

// capture has the state copied, or says why it cannot be saved.
func (l *Learner) capture(checkpoint uint64, folder string, done func(*capture, error)) {
	for p, f := range l.fragments {
		if f.flight != nil {
			done(nil, fmt.Errorf("fragment %d has a contribution under way", p))
			return
		}
	}
	c := &capture{counters: l.counters(), release: func() {}, checkpoint: checkpoint, folder: folder}
	l.trainer.save(c, func(err error) { done(c, err) })
}

// counters are those of the learner; its trainer adds its own.
func (l *Learner) counters() counters {
	c := counters{
		Format: StateFormat, Step: l.step, Position: l.position, Skipped: l.skipped, Withheld: l.withheld, Surplus: l.surplus,
		JoinSteps: l.joinSteps, ClockStamp: l.clock.stamp, ClockOwn: l.clock.own, Losses: l.rule.Losses(), Experts: slices.Clone(l.expert),
	}
	for _, f := range l.fragments {
		c.Fragments = append(c.Fragments, fragmentCounters{f.version, f.sentStep, f.sentPosition, f.sentWithheld, slices.Clone(f.sentExperts)})
	}
	return c
}

// write stores the capture as one object.
func (c *capture) write(ctx context.Context, st store.Store, name string) (store.Object, error) {
	entries := map[string]string{}
	c.counters.Slots = digestsOf(c.tensors)
	if c.boxes != nil {
		c.counters.Slots = nil
		for _, slot := range c.slots {
			c.counters.Slots = append(c.counters.Slots, savedSlot{Name: slot}) // no host has all of it
		}
		marks, err := json.Marshal(c.boxes)
		if err != nil {
			return store.Object{}, err
		}
		entries[gathered.Key] = string(marks)
	}
	meta, err := json.Marshal(c.counters)
	if err != nil {
		return store.Object{}, err
	}
	entries[stateKey] = string(meta)
	return store.PutTensors(ctx, st, name, c.tensors, entries)
}

// slotDigests are those that write has taken.
func (c *capture) slotDigests() []*wire.SlotDigest {
	var out []*wire.SlotDigest
	for _, s := range c.counters.Slots {
		out = append(out, &wire.SlotDigest{Slot: s.Name, Digest: s.Digest})
	}
	return out
}

// saveRetryEvery is the pause before a state is written again to a store that was full.
const saveRetryEvery = 5 * time.Second

// keep writes a captured state; on a full store it waits and tries again, as the
// coordinator does with its own parts.
func (c *capture) keep(ctx context.Context, st store.Store, log *slog.Logger, layout string, ask *wire.Capture) *wire.Stored {
	held := false
	if c.awaitFiles != nil {
		var err error
		if c.files, err = c.awaitFiles(ctx); err != nil {
			return &wire.Stored{Checkpoint: ask.Checkpoint, Reason: err.Error()}
		}
	}
	for {
		o, err := c.write(ctx, st, ask.Object)
		if err == nil {
			return &wire.Stored{
				Checkpoint: ask.Checkpoint, Object: o.Name, SizeBytes: uint64(o.Size), Digest: o.SHA256,
				Layout: layout, Slots: c.slotDigests(), Files: c.files,
			}
		}
		if full := errors.Is(err, store.ErrFull); !full || !held {
			log.Error("state_not_saved", "err", err)
			held = full // once is enough: it is tried again and again
		}
		if !errors.Is(err, store.ErrFull) {
			return &wire.Stored{Checkpoint: ask.Checkpoint, Reason: err.Error()}
		}
		select {
		case <-ctx.Done():
			return &wire.Stored{Checkpoint: ask.Checkpoint, Reason: err.Error()}
		case <-time.After(saveRetryEvery):
		}
	}
}

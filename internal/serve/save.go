package serve

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/wire"
)

// Parts of a checkpoint, beside islands/NAME.safetensors.
const (
	ModelPart    = "model.safetensors" // the global parameters
	momentumPart = "momentum.safetensors"
	syncerPart   = "syncer.json"
	coordPart    = "coordinator.json"
)

// cutState is everything of a checkpoint, copied at one moment.
type cutState struct {
	number          uint64
	theta, momentum []float32
	tables          syncer.Tables
	coord           coord.Snapshot
	meta            Meta
	islands         map[string]*captured // whose states belong to it
	carried         map[string]uint64    // whose states are those of another checkpoint
	absent          []string             // why states have no part in it
	gate            *gate.Record         // nil: none
	asking          *asking              // an island makes it; nil: none does
}

// captured is an island's state that it has copied; stored tells once where it is
// written, or is closed when it never will be.
type captured struct {
	message *wire.Captured
	stored  chan *wire.Stored
	others  []chan *wire.Stored // the same of further hosts
}

// cut copies the syncer's part; the coordinator's follows in the loop, behind
// everything that was committed before (S5).
func (h *host) cut(e syncer.Cut) {
	c := &cutState{number: e.Checkpoint, theta: h.bank.flat(h.bank.theta), momentum: h.bank.flat(h.bank.momentum), tables: e.Tables}
	h.post(func() {
		c.coord = h.coord.Snapshot()
		c.meta = h.meta(c)
		c.carry(c.coord.Members, h.offers)
		h.copied = c
		h.decide(coord.CutTaken{Checkpoint: c.number})
	})
}

// saveCut writes what was copied, once the coordinator's record of it is on the tape.
func (h *host) saveCut() {
	c := h.copied
	h.copied = nil
	h.saving.Go(func() { h.save(c) })
}

// meta describes the cut. An island's part counts when it was captured for this
// very checkpoint by an incarnation that still lives.
func (h *host) meta(c *cutState) Meta {
	consumed, _, _ := h.coord.Account()
	m := Meta{
		RunID: h.runID, Era: h.era, Tokens: consumed * h.sampleTokens(), Consumed: consumed, StepSamples: h.run.StepSamples(),
		SampleTokens: h.run.Train.SequenceTokens, Fragments: len(h.bank.fragments), Tokenizer: h.data().Tokenizer,
		DataDigest: h.data().Digest, Seed: h.run.Seed, KernelSet: h.kernel.Name(), Run: string(h.run.Marshal()), Islands: map[string]SavedPart{}, Origin: h.origin,
	}
	m.Model, m.Tensors = modelOf(h.run)
	c.islands, c.carried = map[string]*captured{}, map[string]uint64{}
	for _, member := range c.coord.Members {
		p := h.captures[member.Incarnation]
		if p != nil && p.message.Checkpoint == c.number && member.Captured >= 0 && !member.Carried {
			c.islands[member.Island] = p
			m.Islands[member.Island] = SavedPart{Incarnation: member.Incarnation, Position: p.message.Position, AnchorVersions: p.message.AnchorVersions}
		}
	}
	return m
}

// awaitIslands waits until every island has stored what it captured; one that is
// gone before has no part in the checkpoint.
func (c *cutState) awaitIslands(ctx context.Context, folder string) error {
	for island, p := range c.islands {
		part, whole, err := p.await(ctx, c.meta.Islands[island], folder)
		if err != nil {
			return err
		}
		if whole {
			c.meta.Islands[island] = part
		} else {
			delete(c.meta.Islands, island)
		}
	}
	c.islands = nil // a second attempt finds them stored
	return nil
}

// await completes what is known of an island's state once all of its hosts have stored
// theirs; not whole: one never will.
func (p *captured) await(ctx context.Context, part SavedPart, folder string) (_ SavedPart, whole bool, err error) {
	for host, stored := range append([]chan *wire.Stored{p.stored}, p.others...) {
		select {
		case s, ok := <-stored:
			if !ok {
				return part, false, nil
			}
			if host == 0 {
				part.SizeBytes, part.Digest = s.SizeBytes, s.Digest
				part.Layout, part.Slots = s.Layout, slotsOf(s.Slots)
			} else {
				part.Hosts = append(part.Hosts, SavedHost{host, s.SizeBytes, s.Digest})
			}
			for _, f := range s.Files {
				part.Files = append(part.Files, savedFile(f, folder))
			}
		case <-ctx.Done():
			return part, false, ctx.Err()
		}
	}
	return part, true, nil
}

// notHere is what is said of an object that should be in the store.
const notHere = " is not in this run's store"

// dropAbsent leaves out the state of an island that says it is stored and is not here: a host
// that does not share the run's folder has written it into a folder of its own.
func (c *cutState) dropAbsent(ctx context.Context, st store.Store) {
	for island, p := range c.meta.Islands {
		for _, part := range p.objects(island) {
			f, _, err := st.Open(ctx, store.PartName(c.number, part))
			if err == nil {
				f.Close() //nolint:errcheck // it was only looked for
			}
			if errors.Is(err, store.ErrNotFound) {
				c.absent = append(c.absent, store.PartName(c.number, part)+notHere)
				delete(c.meta.Islands, island)
			}
		}
	}
}

// save writes the checkpoint in the background; on a full store it waits and
// tries again, and the older ones stay.
func (h *host) save(c *cutState) {
	h.beginRecord(c)
	done, err := store.Save(h.ctx, h.store, c.number, func(ctx context.Context, w *store.Writer) (any, error) {
		err := c.write(ctx, w, h.store, h.run.Table(), func() { h.awaitRecord(ctx, c) })
		return c.meta, err
	}, h.holder())
	if h.ctx.Err() != nil && err != nil {
		return
	}
	if err != nil {
		h.emit(ledger.CheckpointHeld{At: time.Now(), Reason: err.Error()})
		h.post(func() { h.decide(coord.SaveFailed{Checkpoint: c.number, Why: err.Error()}) })
		return
	}
	inUse := h.offers.saved(done.Number(), c.meta.Islands, h.store.Location())
	if c.gate != nil {
		if err := h.door.saveAs(*c.gate, c.number); err != nil {
			h.log.Warn("no_gate_record", "err", err)
		}
	}
	h.emit(ledger.CheckpointSaved{At: time.Now(), Number: done.Number(), Path: checkpointPath(h.store, done.Number()), Tokens: c.meta.Tokens})
	for _, why := range c.absent {
		h.emit(ledger.Note{At: time.Now(), Text: why + "; the checkpoint goes without the state of that island"})
	}
	pruned, err := store.Prune(h.ctx, h.store, h.run.Checkpoint.Keep, inUse...)
	if err != nil {
		pruned.Warnings = append(pruned.Warnings, err.Error())
	}
	for _, w := range pruned.Warnings {
		h.emit(ledger.Note{At: time.Now(), Text: w})
	}
	h.post(func() { h.decide(coord.Saved{Checkpoint: c.number}) })
}

// checkpointPath is where a user finds a checkpoint.
func checkpointPath(st store.Store, number uint64) string {
	return filepath.Join(st.Location(), filepath.FromSlash(store.PartName(number, "")))
}

// holder waits for space between the attempts of one save. What is wrong is told once, and
// again when it has changed; names of temporary files, which always do, do not count.
func (h *host) holder() func(ctx context.Context, attempt int, full error) error {
	said := ""
	return func(ctx context.Context, _ int, full error) error {
		if reason := steady(full); reason != said {
			said = reason
			h.emit(ledger.CheckpointHeld{At: time.Now(), Reason: full.Error()})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(h.opts.retry):
			return nil
		}
	}
}

// temporary is the name of a file that is being written.
var temporary = regexp.MustCompile(`\.tmp-[^\s:/]*`)

// steady is an error's text without the names of temporary files.
func steady(err error) string { return temporary.ReplaceAllString(err.Error(), ".tmp") }

// write writes all parts; record waits for the gate record that an island makes meanwhile.
func (c *cutState) write(ctx context.Context, w *store.Writer, st store.Store, table []model.Tensor, record func()) error {
	if err := w.Tensors(ctx, ModelPart, tensorsOf(table, c.theta), nil); err != nil {
		return err
	}
	if err := w.Tensors(ctx, momentumPart, tensorsOf(table, c.momentum), nil); err != nil {
		return err
	}
	if err := w.JSON(ctx, syncerPart, c.tables); err != nil {
		return err
	}
	if err := w.JSON(ctx, coordPart, c.coord); err != nil {
		return err
	}
	if record(); c.gate != nil {
		if err := w.JSON(ctx, gatePart, c.gate); err != nil {
			return err
		}
	}
	if err := c.awaitIslands(ctx, st.Location()); err != nil {
		return err
	}
	if err := c.copyCarried(ctx, st); err != nil {
		return err
	}
	c.dropAbsent(ctx, st)
	if err := c.gather(ctx, st, table); err != nil {
		return err
	}
	for island, p := range c.meta.Islands {
		if err := w.Existing(ctx, islandPart(island), int64(p.SizeBytes), p.Digest); err != nil {
			return err
		}
		for _, h := range p.Hosts {
			if err := w.Existing(ctx, hostPart(island, h.Host), int64(h.SizeBytes), h.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// tensorsOf views a flat vector as the model's tensors. Without one it is their names
// and shapes alone.
func tensorsOf(table []model.Tensor, flat []float32) []store.Tensor {
	var out []store.Tensor
	for _, t := range table {
		tensor := store.Tensor{Name: t.Name, Shape: t.Shape}
		if flat != nil {
			tensor.F32 = flat[t.Offset : t.Offset+t.Size()]
		}
		out = append(out, tensor)
	}
	return out
}

// readFlat reads all tensors of a part into a flat vector; one that is missing is
// an error that names it.
func readFlat(ctx context.Context, c store.Checkpoint, part string, table []model.Tensor, flat []float32) error {
	f, err := c.Tensors(ctx, part)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.ReadAll(tensorsOf(table, flat))
}

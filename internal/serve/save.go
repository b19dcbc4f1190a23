package serve

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
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

// Meta stands in a checkpoint's manifest: what a reader needs to know to use it.
type Meta struct {
	RunID        string               `json:"run_id"`
	Era          uint32               `json:"era"`
	Tokens       int64                `json:"tokens"` // in the model
	Consumed     int64                `json:"consumed_samples"`
	StepSamples  int64                `json:"step_samples"`
	SampleTokens int                  `json:"sample_tokens"`
	Fragments    int                  `json:"fragments"`
	Model        *model.Config        `json:"model,omitempty"`   // absent: the model is the user's own
	Tensors      []SavedTensor        `json:"tensors,omitempty"` // of a model of the user's own
	Tokenizer    string               `json:"tokenizer"`
	DataDigest   string               `json:"data_digest"`
	Seed         uint64               `json:"seed"`
	KernelSet    string               `json:"kernel_set"`
	Run          string               `json:"run_yaml"`
	Islands      map[string]SavedPart `json:"islands"`
	Origin       json.RawMessage      `json:"origin,omitempty"` // of an imported model
}

// SavedTensor is a tensor of a model of the user's own.
type SavedTensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	State bool   `json:"state,omitempty"`
}

// modelOf tells a run's model: by its configuration, or by its tensors if it is the user's own.
func modelOf(run runfile.Run) (*model.Config, []SavedTensor) {
	if !run.Model.Foreign() {
		cfg := run.Model.Config
		return &cfg, nil
	}
	var tensors []SavedTensor
	for _, t := range run.Model.Tensors {
		tensors = append(tensors, SavedTensor{Name: t.Name, Shape: append([]int{}, t.Shape...), State: t.State})
	}
	return nil, tensors
}

// otherTensors says how the tensors of a checkpoint are not those of a run, or nothing.
func otherTensors(saved []SavedTensor, run runfile.Run) string {
	switch {
	case len(saved) == 0:
		return "is of one of our models, and the run's is your own"
	case !run.Model.Foreign():
		return "is of a model of your own, and the run's is one of ours"
	}
	var own []model.Named
	for _, t := range saved {
		own = append(own, model.Named{Name: t.Name, Shape: t.Shape, State: t.State})
	}
	in := (*fault.Input)(nil)
	if errors.As(model.Unlike(run.Table(), own), &in) {
		return "is of another model: parameter " + in.Value + " " + in.Problem
	}
	return ""
}

// SavedPart is an island's own state in a checkpoint.
type SavedPart struct {
	Incarnation    uint64   `json:"incarnation"`
	Position       uint64   `json:"position_samples"`
	AnchorVersions []uint64 `json:"anchor_versions"`
	SizeBytes      uint64   `json:"size_bytes"`
	Digest         string   `json:"sha256"`

	Layout string      `json:"layout,omitempty"` // on what the island computed, in words
	Slots  []SavedSlot `json:"slots,omitempty"`  // in the part
	Files  []SavedFile `json:"files,omitempty"`  // that the island's trainer saved itself
	Hosts  []SavedHost `json:"hosts,omitempty"`  // further hosts of the island, each with a part of its own

	carried bool // of the checkpoint before: its island has not begun with it
}

// SavedHost is what a host of an island beside its first has written.
type SavedHost struct {
	Host      int    `json:"host"` // from 1
	SizeBytes uint64 `json:"size_bytes"`
	Digest    string `json:"sha256"`
}

// SavedSlot is the digest of an island's weights or of one of its moments, gathered over
// all its ranks.
type SavedSlot struct {
	Slot   string `json:"slot"`
	Digest string `json:"sha256"`
}

// SavedFile is a file that the trainer saved: within the run folder under its name there,
// for the folder may be moved; elsewhere at the absolute path that its host has for it.
type SavedFile struct {
	Rank      uint32 `json:"rank"`
	Path      string `json:"path"`
	SizeBytes uint64 `json:"size_bytes"`
	Digest    string `json:"sha256"`
}

// savedFile is how the checkpoint of a run in a folder names a trainer's file.
func savedFile(f *wire.StateFile, folder string) SavedFile {
	path := f.Path
	if within, err := filepath.Rel(folder, path); err == nil && filepath.IsLocal(within) {
		path = filepath.ToSlash(within)
	}
	return SavedFile{f.Rank, path, f.SizeBytes, f.Digest}
}

// from is the file's path where the run's folder is.
func (f SavedFile) from(folder string) string {
	if filepath.IsAbs(f.Path) {
		return f.Path
	}
	return filepath.Join(folder, filepath.FromSlash(f.Path))
}

// files are the trainer's own, as its ranks find them.
func (p SavedPart) files(folder string) (out []*wire.StateFile) {
	for _, f := range p.Files {
		out = append(out, &wire.StateFile{Rank: f.Rank, Path: f.from(folder), SizeBytes: f.SizeBytes, Digest: f.Digest})
	}
	return out
}

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

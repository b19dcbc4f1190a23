package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// restore is what an island takes over from the checkpoint.
type restore struct {
	state     *wire.IslandState
	saved     SavedPart
	number    uint64  // of the checkpoint that it is in
	taken     bool    // nothing of it is to be read any more
	peer      string  // whose moments a joiner takes, and nothing else; empty: it is its own state
	positions []int64 // samples merged, by fragment
	applied   int64   // samples of state.Position that were not withheld
}

// resume opens a new era from the newest whole checkpoint: the old tapes are
// closed, what they hold beyond it is listed as undone.
func (op *opened) resume(ctx context.Context) error {
	c, incomplete, err := store.Newest(ctx, op.store)
	if err != nil {
		return err
	}
	for _, i := range incomplete {
		op.notes = append(op.notes, i.String()+"; not used")
	}
	if err := c.Verify(ctx); err != nil {
		return err
	}
	var meta Meta
	if err := c.Meta(&meta); err != nil {
		return err
	}
	if err := op.fits(meta); err != nil {
		return err
	}
	if err := op.checkFiles(ctx, meta); err != nil {
		return err
	}
	op.origin = meta.Origin
	op.runID, op.fromCheckpoint = meta.RunID, checkpointPath(op.store, c.Number())
	var tables syncer.Tables
	var snap coord.Snapshot
	if err := c.JSON(ctx, syncerPart, &tables); err != nil {
		return err
	}
	if err := c.JSON(ctx, coordPart, &snap); err != nil {
		return err
	}
	if err := op.loadTensors(ctx, c, tables); err != nil {
		return err
	}
	lost, last, past, err := op.closeEras(ctx, tables)
	if err != nil {
		return err
	}
	op.era = last + 1
	seeds := op.planRestores(c, meta, snap, tables)
	next, err := store.NextNumber(ctx, op.store) // behind those that were passed over, too
	if err != nil {
		return err
	}
	snap.Checkpoint, snap.Incarnation = next-1, max(snap.Incarnation, op.incarnation)
	op.coord = coord.Restore(op.coordConfig(), snap, seeds, past)
	op.sync = syncer.Restore(op.syncConfig(), tables, op.fleetTokens())
	op.notes = append(op.notes, fmt.Sprintf("resuming from checkpoint %d in era %d", c.Number(), op.era), op.layoutNote(meta))
	op.notes = append(op.notes, op.stateNotes(meta)...)
	op.offers.newest = &savedStates{c.Number(), meta.Islands}
	op.tellUndone(lost)
	if err := op.openTapes(ctx, eraRecord{Checkpoint: c.Number(), Undone: lost}); err != nil {
		return err
	}
	return op.writeRunFile(ctx, op.replace) // only by the one that has the era
}

func (op *opened) tellUndone(lost []undone) {
	for _, u := range lost {
		op.notes = append(op.notes, fmt.Sprintf("undone: fragment %d, versions %d to %d of era %d (%d tokens) came after the checkpoint", u.Fragment, u.From, u.To, u.Era, u.Tokens))
	}
}

// nobodyCoordinates refuses to resume while the recorded coordinator still answers.
func (op *opened) nobodyCoordinates(ctx context.Context) error {
	f, size, err := op.store.Open(ctx, CoordinatorName)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var c coordinator
	data, err := io.ReadAll(io.NewSectionReader(f, 0, min(size, 1<<16)))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return &fault.Input{Where: op.store.Location() + "/" + CoordinatorName, Problem: "cannot be read", Next: "delete it if no mistura train runs on this folder", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	who, err := transport.Identify(ctx, c.join())
	if err != nil || who.GetRunId() != c.RunID {
		return nil
	}
	return &fault.Input{
		Where: "--resume", Value: op.store.Location(), Problem: fmt.Sprintf("its coordinator still answers at %s (process %d, era %d)", c.Address, c.PID, who.GetEra()),
		Next: "stop that one first",
	}
}

// fits refuses what must not change between eras.
func (op *opened) fits(meta Meta) error {
	where := op.store.Location()
	switch {
	case !sameModel(meta, op.run):
		return &fault.Input{Where: where, Problem: "the checkpoint's model is not the run file's", Next: "restore run.yaml"}
	case meta.StepSamples != op.run.StepSamples() || meta.SampleTokens != op.run.Train.SequenceTokens:
		return &fault.Input{Where: where, Value: fmt.Sprintf("%d × %d", op.run.StepSamples(), op.run.Train.SequenceTokens),
			Problem: fmt.Sprintf("a step was %d samples of %d tokens when the checkpoint was made", meta.StepSamples, meta.SampleTokens), Next: "restore run.yaml"}
	case meta.Fragments != len(op.bank.fragments):
		return &fault.Input{Where: where, Value: fmt.Sprint(len(op.bank.fragments)), Problem: fmt.Sprintf("the checkpoint has %d fragments", meta.Fragments), Next: "restore run.yaml"}
	case meta.Seed != op.run.Seed:
		return &fault.Input{Where: where, Value: fmt.Sprint(op.run.Seed), Problem: fmt.Sprintf("the seed was %d when the checkpoint was made, and samples are drawn from it", meta.Seed), Next: "restore run.yaml"}
	case meta.DataDigest != op.data().Digest:
		return &fault.Input{Where: op.dataDir, Value: op.data().Digest, Problem: "other text than the checkpoint was trained on (" + meta.DataDigest + ")", Next: "restore the data folder"}
	case op.run.TotalSamples() < meta.Consumed:
		return &fault.Input{Where: op.run.Where("tokens"), Value: op.run.Tokens.String(), Problem: fmt.Sprintf("%d tokens are trained already", meta.Consumed*int64(meta.SampleTokens)), Next: "ask for more"}
	}
	return nil
}

// sameModel: the checkpoint is of the run's model, trained as the run trains it.
func sameModel(meta Meta, run runfile.Run) bool {
	if meta.Model == nil || run.Model.Foreign() {
		return otherTensors(meta.Tensors, run) == ""
	}
	return *meta.Model == run.Model.Config
}

// loadTensors fills the bank.
func (op *opened) loadTensors(ctx context.Context, c store.Checkpoint, tables syncer.Tables) error {
	if len(tables.Fragments) != len(op.bank.fragments) {
		return &fault.Input{Where: c.Path() + "/" + syncerPart, Problem: fmt.Sprintf("%d fragments, the run has %d", len(tables.Fragments), len(op.bank.fragments)), Next: "use another checkpoint"}
	}
	theta := make([]float32, op.run.Size())
	momentum := make([]float32, len(theta))
	for part, flat := range map[string][]float32{ModelPart: theta, momentumPart: momentum} {
		if err := readFlat(ctx, c, part, op.run.Table(), flat); err != nil {
			return err
		}
	}
	op.bank.load(theta, momentum)
	for p, t := range tables.Fragments {
		op.bank.version[p], op.bank.stamp[p] = t.Version, t.Stamp
	}
	return nil
}

// hostParts names what the further hosts of an island have written.
func hostParts(number uint64, island string, saved SavedPart) []*wire.StatePart {
	var out []*wire.StatePart
	for _, h := range saved.Hosts {
		out = append(out, &wire.StatePart{Object: store.PartName(number, hostPart(island, h.Host)), Digest: h.Digest})
	}
	return out
}

// checkFiles refuses to go on without what the trainers of this machine's islands have
// saved themselves: an era that began without it would be saved without it. What lies on
// other hosts is compared there.
func (op *opened) checkFiles(ctx context.Context, meta Meta) error {
	for _, i := range op.run.Islands {
		saved := meta.Islands[i.Name]
		for _, f := range saved.Files {
			if filepath.IsAbs(f.Path) && (op.outside || len(saved.Hosts) > 0) {
				continue
			}
			path := f.from(op.store.Location())
			if problem := store.CompareFile(ctx, path, int64(f.SizeBytes), f.Digest); problem != "" {
				return &fault.Input{
					Where: fmt.Sprintf("state of island %s, rank %d", i.Name, f.Rank), Value: path, Problem: problem,
					Next: "put the file back as the trainer saved it, or leave the island out",
				}
			}
		}
	}
	return nil
}

// planRestores decides which islands take over their saved state. A fragment is
// kept when its anchor is the version of the cut and nothing of the island was
// merged after it captured; all others start from the model.
func (op *opened) planRestores(c store.Checkpoint, meta Meta, snap coord.Snapshot, tables syncer.Tables) map[string]coord.Seed {
	inRun, anybody := map[string]bool{}, op.coordConfig().Open // may join under the name it had
	for _, i := range op.run.Islands {
		inRun[i.Name] = true
	}
	seeds := map[string]coord.Seed{}
	for _, m := range snap.Members {
		saved, ok := meta.Islands[m.Island]
		seed, usable := coord.SeedOf(m)
		if !ok || !usable || !(inRun[m.Island] || anybody) || saved.Incarnation != m.Incarnation || !c.Has(islandPart(m.Island)) {
			continue
		}
		r := restore{state: &wire.IslandState{
			Object: store.PartName(c.Number(), islandPart(m.Island)), Digest: saved.Digest, Position: uint64(seed.Position), Committed: uint64(seed.Committed),
			Withheld: uint64(seed.Withheld()),
		}, saved: saved, number: c.Number(), applied: seed.Position - seed.Withheld()}
		r.state.Files = saved.files(op.store.Location())
		r.state.Parts = hostParts(c.Number(), m.Island, saved)
		for p, t := range tables.Fragments {
			keep := m.Captured >= m.Committed && p < len(saved.AnchorVersions) && saved.AnchorVersions[p] == t.Version
			r.state.Keep = append(r.state.Keep, keep)
			var position int64
			for _, e := range t.Learners {
				if e.Incarnation == m.Incarnation {
					position = e.Merged
				}
			}
			r.positions = append(r.positions, position)
		}
		op.offers.restores[m.Island] = r
		seeds[m.Island] = seed
	}
	return seeds
}

// fleetTokens is what counts as trained when the era begins: what is in the model
// and what restored islands have trained beyond it. Nothing else is leased yet.
func (op *opened) fleetTokens() int64 {
	consumed, leased, _ := op.coord.Account()
	return (consumed + leased) * op.sampleTokens()
}

// restoreOf gives the saved state to the incarnation that was launched with it: the
// coordinator counts its samples from there, and those of no other.
func (h *host) restoreOf(e coord.Admit) *wire.IslandState {
	h.offers.mu.Lock()
	defer h.offers.mu.Unlock()
	r, ok := h.offers.restores[h.crew.island(e.Incarnation)]
	if !ok || !e.Restored {
		return h.momentsFor(e.Incarnation)
	}
	h.offers.brought[e.Incarnation] = r
	return r.state
}

// restoreOfHost is the same for a further host of an island that was admitted.
func (h *host) restoreOfHost(incarnation uint64) *wire.IslandState {
	r, _ := h.offers.of(incarnation)
	return r.state
}

// broughtAlong is what a restored incarnation counts as trained and merged.
func (h *host) broughtAlong(incarnation uint64) (tokens int64, positions []int64) {
	r, _ := h.offers.of(incarnation)
	return r.applied * h.sampleTokens(), r.positions
}

// stepsBrought is how many inner steps that was.
func (h *host) stepsBrought(incarnation uint64) uint64 {
	r, _ := h.offers.of(incarnation)
	return r.state.GetPosition() / uint64(h.run.StepSamples())
}

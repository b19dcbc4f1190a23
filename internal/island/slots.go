package island

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// What a saved state holds one value of for each weight: a slot. A state lies in its file
// tensor by tensor as the run names them, whole, so that it does not matter how many
// ranks held which part of them, nor which engine.
const (
	weightsSlot = "weights"
	firstSlot   = "moment1" // mean of the gradients
	secondSlot  = "moment2" // mean of their squares
)

// slotNames are all of them in the order of the file.
func slotNames() []string { return []string{weightsSlot, firstSlot, secondSlot} }

// savedSlot is a slot that a state has.
type savedSlot struct {
	Name   string `json:"name"`
	Digest string `json:"gathered_sha256"`
}

// slotsProblem tells what no state can say of its slots, or nothing.
func slotsProblem(slots []savedSlot, format int) string {
	if format < slotsFormat {
		if len(slots) > 0 {
			return fmt.Sprintf("slots in format %d", format)
		}
		return ""
	}
	names := slotNames()
	for i, s := range slots {
		at := slices.Index(names, s.Name)
		if at < 0 || i == 0 && at != 0 || len(s.Digest) != 2*sha256.Size && s.Digest != "" {
			return fmt.Sprintf("slot %d is %q with digest %q", i, s.Name, s.Digest)
		}
		names = names[at+1:]
	}
	if len(slots) == 0 {
		return "it has no weights"
	}
	return ""
}

// slotTensors views a flat vector as a slot's tensors.
func slotTensors(slot string, table []model.Tensor, flat []float32) []store.Tensor {
	out := make([]store.Tensor, len(table))
	for i, t := range table {
		out[i] = store.Tensor{Name: slot + "." + t.Name, Shape: t.Shape, F32: flat[t.Offset : t.Offset+t.Size()]}
	}
	return out
}

// digestsOf are those of all slots that are among the tensors of a state.
func digestsOf(tensors []store.Tensor) []savedSlot {
	var out []savedSlot
	for _, slot := range slotNames() {
		var own []store.Tensor
		for _, t := range tensors {
			if strings.HasPrefix(t.Name, slot+".") {
				own = append(own, t)
			}
		}
		if len(own) > 0 {
			out = append(out, savedSlot{slot, gathered.Digest(own)})
		}
	}
	return out
}

// stateFile is an open saved state.
type stateFile struct {
	*store.Reader
	boxes    gathered.Boxes // by tensor, of a state that several hosts have written
	counters counters
	close    func() error
	widened  map[string]int // tensors by type, of those that were not fp32
	said     []string       // what else is not as it was saved
}

// openState opens a state and checks that it is the one that was named.
func openState(ctx context.Context, st store.Store, s *wire.IslandState) (*stateFile, error) {
	file, size, err := st.Open(ctx, s.Object)
	if err != nil {
		return nil, fmt.Errorf("opening the saved state: %w", err)
	}
	r, err := checkedReader(ctx, st, s.Object, s.Digest, file, size)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f := &stateFile{Reader: r, boxes: gathered.Boxes{}, close: file.Close, widened: map[string]int{}}
	if f.counters, err = decodeCounters([]byte(r.Meta()[stateKey])); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the counters of %s: %w", s.Object, err), f.close())
	}
	if err := f.addParts(ctx, st, s); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// checkedReader reads the header of an object that is the one that was named.
func checkedReader(ctx context.Context, st store.Store, object, digest string, file store.File, size int64) (*store.Reader, error) {
	found, err := store.Digest(ctx, file, size)
	if err != nil {
		return nil, fmt.Errorf("reading the saved state %s: %w", object, err)
	}
	if found != digest {
		return nil, &fault.Input{Where: st.Location() + "/" + object, Problem: fmt.Sprintf("this file has SHA-256 %.12s…, the checkpoint says %.12s…", found, digest),
			Next: "put the file back from a copy or use another checkpoint"}
	}
	r, err := store.OpenSafetensors(file, size)
	if err != nil {
		return nil, fmt.Errorf("reading the saved state %s: %w", object, err)
	}
	return r, nil
}

// has says whether the state holds a slot. States of formats before 3 have all.
func (f *stateFile) has(slot string) bool {
	return f.counters.Format < slotsFormat || slices.ContainsFunc(f.counters.Slots, func(s savedSlot) bool { return s.Name == slot })
}

// read fills flat with a slot. Moments may be of another type than fp32: they are widened, and remarks tells
// it. Weights may not: a master that was rounded cannot be made again (B11).
func (f *stateFile) read(slot string, table []model.Tensor, flat []float32) error {
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range slotTensors(slot, table, flat) {
		group.Go(func() error {
			if f.boxes[t.Name] != nil {
				return f.boxes.Read(t.Name, t.Shape, t.F32)
			}
			_, info, err := f.Section(t.Name)
			switch {
			case err != nil:
				return err
			case !slices.Equal(info.Shape, t.Shape):
				return fmt.Errorf("tensor %s has shape %v, the run's has %v", t.Name, info.Shape, t.Shape)
			case info.Dtype == "F32":
			case slot == weightsSlot:
				return fmt.Errorf("tensor %s has type %s: its fp32 master is lost, and rounded weights are not the same run", t.Name, info.Dtype)
			default:
				mu.Lock()
				f.widened[info.Dtype]++
				mu.Unlock()
			}
			return f.ReadWide(t.Name, t.F32)
		})
	}
	return group.Wait()
}

// unlike says how a slot that was gathered anew differs from the saved one, or nothing.
func (f *stateFile) unlike(slot, digest string) string {
	for _, s := range f.counters.Slots {
		if s.Name == slot && s.Digest != "" && s.Digest != digest {
			return fmt.Sprintf("its %s, gathered anew, have SHA-256 %.12s…, they were saved with %.12s…", slot, digest, s.Digest)
		}
	}
	return ""
}

// adamSteps is what bias correction depends on; 0 without moments.
func (f *stateFile) adamSteps() uint64 {
	if !f.has(secondSlot) {
		return 0
	}
	return f.counters.AdamSteps
}

// remark notes something that is not as it was saved.
func (f *stateFile) remark(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

// remarks has a line for each kind of cast (D16), and what else was noted.
func (f *stateFile) remarks() []string {
	out := slices.Clone(f.said)
	for _, dtype := range slices.Sorted(maps.Keys(f.widened)) {
		out = append(out, fmt.Sprintf("%d tensors of moments are %s in the checkpoint and fp32 here", f.widened[dtype], dtype))
	}
	return out
}

// checkFiles compares what a trainer saved itself with what the checkpoint says of it.
func checkFiles(ctx context.Context, files []*wire.StateFile) error {
	for _, want := range files {
		if problem := store.CompareFile(ctx, want.Path, int64(want.SizeBytes), want.Digest); problem != "" {
			return &fault.Input{Where: fmt.Sprintf("state of rank %d", want.Rank), Value: want.Path, Problem: problem, Next: "put the file back as the trainer saved it, or resume from another checkpoint"}
		}
	}
	return nil
}

// within are the files that this host is to compare: all of an island on one host, else those that
// ranks of the same numbers had saved, for the others lie on other hosts.
func (h *holding) within(files []*wire.StateFile) (out []*wire.StateFile) {
	for _, f := range files {
		here := slices.ContainsFunc(h.ranks, func(r *attach.Rank) bool { return r.Hello.Rank == int(f.Rank) })
		if here || h.hosts() == 1 {
			out = append(out, f)
		}
	}
	return out
}

// digestFiles is what the checkpoint says of files that ranks saved themselves; ranks
// that saved none are left out.
func digestFiles(ctx context.Context, paths map[int]string) ([]*wire.StateFile, error) {
	var out []*wire.StateFile
	for _, rank := range slices.Sorted(maps.Keys(paths)) {
		if paths[rank] == "" {
			continue
		}
		f, err := os.Open(paths[rank])
		if err != nil {
			return nil, fmt.Errorf("what rank %d saved: %w", rank, err)
		}
		info, err := f.Stat()
		var digest string
		if err == nil {
			digest, err = store.Digest(ctx, f, info.Size())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("what rank %d saved: %w", rank, err)
		}
		out = append(out, &wire.StateFile{Rank: uint32(rank), Path: paths[rank], SizeBytes: uint64(info.Size()), Digest: digest})
	}
	return out, nil
}

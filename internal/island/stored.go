package island

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

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

// addParts opens what further hosts have written, and notes all boxes.
func (f *stateFile) addParts(ctx context.Context, st store.Store, s *wire.IslandState) error {
	if err := f.boxes.Add(f.Reader, s.Object); err != nil {
		return err
	}
	for _, part := range s.Parts {
		file, size, err := st.Open(ctx, part.Object)
		if err != nil {
			return fmt.Errorf("opening the saved state: %w", err)
		}
		before := f.close
		f.close = func() error { return errors.Join(file.Close(), before()) }
		r, err := checkedReader(ctx, st, part.Object, part.Digest, file, size)
		if err != nil {
			return err
		}
		if err := f.boxes.Add(r, part.Object); err != nil {
			return err
		}
	}
	return nil
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

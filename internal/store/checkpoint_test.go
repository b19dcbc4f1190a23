package store_test

import (
	"context"
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// counters stands for what a caller keeps in a manifest.
type counters struct {
	Step int `json:"step"`
}

const (
	weightsPart = "global.safetensors"
	statePart   = "state.json"
	islandPart  = "islands/fast.safetensors"
)

// weights is a small model whose values tell the step.
func weights(step int) []store.Tensor {
	return []store.Tensor{
		{Name: "embed", Shape: []int{2, 2}, F32: []float32{float32(step), 1, 2, 3}},
		{Name: "layers.0.norm", Shape: []int{2}, F32: []float32{1, float32(-step)}},
	}
}

// build writes the parts of a checkpoint at a step.
func build(step int) func(context.Context, *store.Writer) (any, error) {
	return func(ctx context.Context, w *store.Writer) (any, error) {
		err := errors.Join(
			w.Tensors(ctx, weightsPart, weights(step), map[string]string{"format": "1"}),
			w.JSON(ctx, statePart, counters{Step: step}),
		)
		return counters{Step: step}, err
	}
}

func neverHold(_ context.Context, _ int, full error) error { return full }

func save(t *testing.T, st store.Store, number uint64) store.Checkpoint {
	t.Helper()
	c, err := store.Save(t.Context(), st, number, build(int(number)), neverHold)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantCheckpoint checks that a checkpoint is whole and is the one of a step.
func wantCheckpoint(t *testing.T, c store.Checkpoint, step int) {
	t.Helper()
	ctx := t.Context()
	var meta, state counters
	f, err := c.Tensors(ctx, weightsPart)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	into := weights(0)
	if err := errors.Join(c.Verify(ctx), c.Meta(&meta), c.JSON(ctx, statePart, &state), f.ReadAll(into)); err != nil {
		t.Fatal(err)
	}
	want := weights(step)
	if c.Number() != uint64(step) || meta.Step != step || state.Step != step ||
		!slices.Equal(into[0].F32, want[0].F32) || !slices.Equal(into[1].F32, want[1].F32) {
		t.Errorf("checkpoint %d holds meta %v, state %v, tensors %v; want step %d", c.Number(), meta, state, into, step)
	}
}

func wantNewest(t *testing.T, st store.Store, step int, incomplete ...uint64) {
	t.Helper()
	c, found, err := store.Newest(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	wantCheckpoint(t, c, step)
	var numbers []uint64
	for _, i := range found {
		numbers = append(numbers, i.Number)
	}
	if !slices.Equal(numbers, incomplete) {
		t.Errorf("incomplete: %v, want %v", found, incomplete)
	}
}

// wantFault checks for an error that a user can mend, on one line, with these texts
// in it.
func wantFault(t *testing.T, err error, texts ...string) {
	t.Helper()
	var input *fault.Input
	if !errors.As(err, &input) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("error is %v, want a *fault.Input on one line", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error is %q, want %q in it", err, text)
		}
	}
}

// damageByte flips a bit in the middle of an object and leaves its size.
func damageByte(t *testing.T, st store.Store, name string) {
	t.Helper()
	data, err := store.Get(t.Context(), st, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	overwrite(t, st, name, string(data))
}

func TestCheckpointRoundTrip(t *testing.T) {
	for name, st := range map[string]store.Store{"memory": store.NewMemory(), "folder": openFolder(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			c := save(t, st, 1)
			wantCheckpoint(t, c, 1)
			wantNewest(t, st, 1)
			if want := filepath.Join(st.Location(), "checkpoints", "00000001"); filepath.Clean(c.Path()) != want {
				t.Errorf("path is %s, want %s", c.Path(), want)
			}
			if n, err := store.NextNumber(t.Context(), st); n != 2 || err != nil {
				t.Errorf("next number is %d, %v; want 2", n, err)
			}
			if _, err := store.Begin(t.Context(), st, 1); !errors.Is(err, store.ErrExists) {
				t.Errorf("beginning it again gave %v", err)
			}
			loaded, err := store.Load(t.Context(), st, 1)
			if err != nil {
				t.Fatal(err)
			}
			wantCheckpoint(t, loaded, 1)
			_, err = store.Load(t.Context(), st, 2)
			wantFault(t, err, "checkpoints/00000002", "manifest is missing")
		})
	}
}

// Islands write their parts themselves, before or after the checkpoint is begun.
func TestCheckpointExisting(t *testing.T) {
	ctx := t.Context()
	st := store.NewMemory()
	part, err := store.PutTensors(ctx, st, store.PartName(1, islandPart), weights(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *store.Writer {
		w, err := store.Begin(ctx, st, 1)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for name, err := range map[string]error{
		"size":   begin().Existing(ctx, islandPart, part.Size+1, part.SHA256),
		"absent": begin().Existing(ctx, "islands/slow.safetensors", part.Size, part.SHA256),
		"digest": begin().Existing(ctx, islandPart, part.Size, "abc"),
	} {
		if err == nil || !strings.Contains(err.Error(), "islands/") {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	w := begin()
	if err := w.Existing(ctx, islandPart, part.Size, part.SHA256); err != nil {
		t.Fatal(err)
	}
	if err := w.Existing(ctx, islandPart, part.Size, part.SHA256); err == nil {
		t.Error("a part was taken in twice")
	}
	if _, err := w.Commit(ctx, nil); err == nil {
		t.Error("a checkpoint was committed after a failure")
	}
	w = begin()
	if err := w.Existing(ctx, islandPart, part.Size, part.SHA256); err != nil {
		t.Fatal(err)
	}
	c, err := w.Commit(ctx, nil)
	if err != nil || c.Verify(ctx) != nil || !c.Has(islandPart) || c.Has(weightsPart) {
		t.Fatalf("%+v, %v", c.Parts(), err)
	}
	overwrite(t, st, store.PartName(1, islandPart), strings.Repeat("x", int(part.Size)))
	wantFault(t, c.Verify(ctx), islandPart, "SHA-256")
}

// At whatever operation a save fails, the newest checkpoint is the old one, whole;
// or the new one, whole, where only the reply was lost.
func TestCheckpointSaveFailsAnywhere(t *testing.T) {
	for _, effect := range []storetest.Effect{storetest.Lost, storetest.Done} {
		for _, op := range []storetest.Op{storetest.Open, storetest.Put, storetest.Create} {
			for nth := 1; nth <= 3; nth++ {
				memory := store.NewMemory()
				save(t, memory, 1)
				st := storetest.Wrap(memory, storetest.Fault{Op: op, Nth: nth, Effect: effect, AfterBytes: 10})
				_, err := store.Save(t.Context(), st, 2, build(2), neverHold)
				if err != nil && !errors.Is(err, storetest.ErrInjected) {
					t.Fatalf("%s %d: %v", op, nth, err)
				}
				c, _, newestErr := store.Newest(t.Context(), memory.CrashClone())
				if newestErr != nil {
					t.Fatal(newestErr)
				}
				replyLost := op == storetest.Create && effect == storetest.Done
				want := 2
				if err != nil && !replyLost {
					want = 1
				}
				wantCheckpoint(t, c, want)
			}
		}
	}
}

// crashStore clones the store before each operation that alters it.
type crashStore struct {
	*store.Memory
	clones []*store.Memory
}

func (c *crashStore) Create(ctx context.Context, name string, data []byte) error {
	c.clones = append(c.clones, c.CrashClone())
	return c.Memory.Create(ctx, name, data)
}

func (c *crashStore) Put(ctx context.Context, name string, write func(io.Writer) error) (store.Object, error) {
	c.clones = append(c.clones, c.CrashClone())
	return c.Memory.Put(ctx, name, write)
}

func (c *crashStore) Delete(ctx context.Context, name string) error {
	c.clones = append(c.clones, c.CrashClone())
	return c.Memory.Delete(ctx, name)
}

// Whenever the process dies while saving or pruning, the newest whole checkpoint is
// the one before or the new one.
func TestCheckpointCrashAnywhere(t *testing.T) {
	st := &crashStore{Memory: store.NewMemory()}
	save(t, st, 1)
	st.clones = nil
	save(t, st, 2)
	saving := len(st.clones)
	if _, err := store.Prune(t.Context(), st, 1); err != nil {
		t.Fatal(err)
	}
	if saving != 3 || len(st.clones) != 6 {
		t.Fatalf("%d and %d operations, want 3 and 6", saving, len(st.clones))
	}
	for i, clone := range st.clones {
		c, _, err := store.Newest(t.Context(), clone)
		if err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		want := 2
		if i < saving {
			want = 1
		}
		wantCheckpoint(t, c, want)
	}
	wantNewest(t, st, 2)
}

func TestCheckpointWriterRefuses(t *testing.T) {
	ctx := t.Context()
	for name, use := range map[string]func(w *store.Writer) error{
		"manifest as part": func(w *store.Writer) error { return w.JSON(ctx, "manifest.json", 1) },
		"part twice":       func(w *store.Writer) error { return errors.Join(w.JSON(ctx, "a", 1), w.JSON(ctx, "a", 1)) },
		"bad name":         func(w *store.Writer) error { return w.JSON(ctx, "../a", 1) },
		"no JSON":          func(w *store.Writer) error { return w.JSON(ctx, "a", math.NaN()) },
	} {
		st := store.NewMemory()
		w, err := store.Begin(ctx, st, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := use(w); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := w.Commit(ctx, nil); err == nil {
			t.Errorf("%s: committed", name)
		}
		if err := w.Abandon(ctx); err != nil {
			t.Error(err)
		}
		if objects, err := st.List(ctx, ""); len(objects) != 0 || err != nil {
			t.Errorf("%s: left over %v, %v", name, objects, err)
		}
	}
}

func TestCheckpointManifestDamage(t *testing.T) {
	name := store.PartName(2, "manifest.json")
	for _, c := range []struct{ name, from, to, want string }{
		{"cut off", "}\n", "", "its manifest is damaged"},
		{"other number", `"number": 2`, `"number": 1`, "manifest of checkpoint 1"},
		{"unknown field", `"number"`, `"x": 1, "number"`, "unknown field"},
		{"no format", `"format": 2,`, ``, "names no format"},
		{"way out", `"global.`, `"../../`, "begins with a dot"},
		{"part twice", "state.json", weightsPart, "twice"},
		{"part not there", "state.json", "other.json", "its file other.json is missing"},
		{"size", `"size": `, `"size": 1`, "bytes, 1"},
		{"digest", `"sha256": "`, `"sha256": "z`, "not a SHA-256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := store.NewMemory()
			save(t, st, 1)
			save(t, st, 2)
			data, err := store.Get(t.Context(), st, name, 1<<20)
			if err != nil || !strings.Contains(string(data), c.from) {
				t.Fatalf("%s does not hold %q, %v", data, c.from, err)
			}
			overwrite(t, st, name, strings.Replace(string(data), c.from, c.to, 1))
			wantNewest(t, st, 1, 2)
			_, err = store.Load(t.Context(), st, 2)
			wantFault(t, err, c.want)
		})
	}
}

// Data of a later version is refused, not passed over in favour of older data.
func TestCheckpointLaterFormat(t *testing.T) {
	st := store.NewMemory()
	save(t, st, 1)
	overwrite(t, st, store.PartName(2, "manifest.json"), `{"format": 3, "news": true}`)
	_, _, err := store.Newest(t.Context(), st)
	wantFault(t, err, "checkpoints/00000002/manifest.json", "format is 3", "formats up to 2")
}

func TestCheckpointOpenRefuses(t *testing.T) {
	ctx := t.Context()
	st := store.NewMemory()
	c := save(t, st, 1)
	_, _, err := c.Open(ctx, "other")
	wantFault(t, err, "checkpoints/00000001/other", "not part of the checkpoint")
	_, err = c.Tensors(ctx, statePart)
	wantFault(t, err, statePart, "not a usable safetensors file")
	damageByte(t, st, store.PartName(1, statePart))
	wantFault(t, c.JSON(ctx, statePart, new(counters)), statePart, "SHA-256")
	overwrite(t, st, store.PartName(1, statePart), "short")
	wantFault(t, c.JSON(ctx, statePart, new(counters)), statePart, "this file has 5 bytes")
	wantFault(t, c.Meta(new([]int)), "manifest.json", "meta")
}

// Foreign files among the checkpoints are left alone.
func TestCheckpointForeignFiles(t *testing.T) {
	st := store.NewMemory()
	foreign := []string{"checkpoints/README", "checkpoints/1/manifest.json", "checkpoints/best/x", "checkpoints/000000001/x"}
	for _, name := range foreign {
		overwrite(t, st, name, "mine")
	}
	_, _, err := store.Newest(t.Context(), st)
	wantFault(t, err, "nothing to load")
	for n := range uint64(3) {
		save(t, st, n+1)
	}
	if _, err := store.Prune(t.Context(), st, 1); err != nil {
		t.Fatal(err)
	}
	wantNewest(t, st, 3)
	for _, name := range foreign {
		if _, _, err := st.Open(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrune(t *testing.T) {
	ctx := t.Context()
	st := store.NewMemory()
	for n := uint64(1); n <= 6; n++ {
		save(t, st, n)
	}
	for _, doomed := range []string{store.PartName(2, "manifest.json"), store.PartName(4, "manifest.json"), store.PartName(5, statePart)} {
		if err := st.Delete(ctx, doomed); err != nil {
			t.Fatal(err)
		}
	}
	// Whole: 1, 3, 6. Never ended: 2, 4. Lost a file: 5. In flight: 7.
	overwrite(t, st, store.PartName(7, weightsPart), "half")
	result, err := store.Prune(ctx, st, 2)
	if err != nil || !slices.Equal(result.Removed, []uint64{1, 2, 4}) {
		t.Fatalf("removed %v, %v; want 1, 2, 4", result.Removed, err)
	}
	if len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "checkpoint 5: its file state.json is missing") {
		t.Errorf("warnings %q, want one about checkpoint 5", result.Warnings)
	}
	wantNewest(t, st, 6, 7)
	// Keeping none is not possible.
	if result, err = store.Prune(ctx, st, 0); err != nil || !slices.Equal(result.Removed, []uint64{3, 5}) {
		t.Errorf("removed %v, %v; want 3, 5", result.Removed, err)
	}
	wantNewest(t, st, 6, 7)
	// What somebody reads stays for as long as that takes.
	save(t, st, 8)
	if result, err = store.Prune(ctx, st, 1, 6, 99); err != nil || !slices.Equal(result.Removed, []uint64{7}) {
		t.Errorf("removed %v, %v; want 7: 6 is in use", result.Removed, err)
	}
	if result, err = store.Prune(ctx, st, 1); err != nil || !slices.Equal(result.Removed, []uint64{6}) {
		t.Errorf("removed %v, %v; want 6", result.Removed, err)
	}
}

func TestPruneNothingWhole(t *testing.T) {
	st := store.NewMemory()
	overwrite(t, st, store.PartName(1, weightsPart), "half")
	result, err := store.Prune(t.Context(), st, 1)
	if err != nil || len(result.Removed) != 0 {
		t.Errorf("removed %v, %v; want nothing", result.Removed, err)
	}
}

func TestCancelledCheckpoint(t *testing.T) {
	st := openFolder(t, t.TempDir())
	save(t, st, 1)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := store.Save(ctx, st, 2, func(ctx context.Context, w *store.Writer) (any, error) {
		meta, err := build(2)(ctx, w)
		cancel()
		return meta, err
	}, neverHold)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("save gave %v", err)
	}
	if objects, err := st.List(t.Context(), "checkpoints/00000002/"); len(objects) != 0 || err != nil {
		t.Errorf("left over %v, %v", objects, err)
	}
	wantNewest(t, st, 1)
	c, _, err := store.Newest(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("verify gave %v", err)
	}
}

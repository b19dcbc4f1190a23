package store_test

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// The tests of this file retell faults that users of other trainers have reported.
// Where a fault comes with numbers of another system, the test uses this one's and
// says so.

// Case B3: a save is due while one weight is not finite. The save is refused and
// names the tensor; the last good checkpoint (100) stays the newest.
func TestCaseB3NonFiniteSave(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		st := store.NewMemory()
		save(t, st, 100)
		_, err := store.Save(t.Context(), st, 200, func(ctx context.Context, w *store.Writer) (any, error) {
			tensors := weights(200)
			tensors[1].F32[1] = float32(bad)
			return nil, w.Tensors(ctx, weightsPart, tensors, nil)
		}, neverHold)
		if !errors.Is(err, store.ErrNonFinite) || !strings.Contains(err.Error(), "tensor layers.0.norm, element 1 of 2") {
			t.Errorf("saving %v gave %v", bad, err)
		}
		wantNewest(t, st, 100)
	}
}

// Case D1: 200 is whole, 300 was cut off by a kill. The case has a shard of 0 bytes
// below a name that counts; here a shard appears whole or not at all, so what a kill
// leaves is a checkpoint without its last files; the shard of 0 bytes is tried too,
// as damage done by others.
func TestCaseD1CutOffSave(t *testing.T) {
	ctx := t.Context()
	for name, damage := range map[string]func(t *testing.T, st *store.Memory) store.Store{
		"killed": func(t *testing.T, st *store.Memory) store.Store {
			w, err := store.Begin(ctx, st, 300)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Tensors(ctx, weightsPart, weights(300), nil); err != nil {
				t.Fatal(err)
			}
			return st.CrashClone()
		},
		"shard of 0 bytes": func(t *testing.T, st *store.Memory) store.Store {
			save(t, st, 300)
			overwrite(t, st, store.PartName(300, weightsPart), "")
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			memory := store.NewMemory()
			save(t, memory, 200)
			st := damage(t, memory)
			wantNewest(t, st, 200, 300)
			if n, err := store.NextNumber(ctx, st); n != 301 || err != nil {
				t.Errorf("the next save is %d, %v; want 301", n, err)
			}
		})
	}
}

// Case D2, arithmetic: 1.2e9 parameters in fp32 with two moments are 14.4 GB a save;
// with 3 kept and 1 in flight 57.6 GB are needed, 30 GB are there: refused before
// anything is written.
func TestCaseD2Space(t *testing.T) {
	const params, saveBytes = 1_200_000_000, 3 * 4 * 1_200_000_000
	vector := func(name string) store.Tensor { return store.Tensor{Name: name, Shape: []int{params}} }
	size, err := store.SafetensorsSize([]store.Tensor{vector("weights"), vector("m"), vector("v")}, nil)
	if err != nil || size < saveBytes || size > saveBytes+1000 {
		t.Errorf("a save of 14.4 GB takes %d bytes, %v", size, err)
	}
	if need := store.PlanBytes(saveBytes, 3); need != 57_600_000_000 {
		t.Errorf("planned %d bytes, want 57.6e9", need)
	}
	if need := store.PlanBytes(math.MaxInt64/2, 3); need != math.MaxInt64 {
		t.Errorf("planned %d bytes for a save beyond all bounds", need)
	}
	st := store.NewMemory()
	if err := store.CheckSpace(t.Context(), st, saveBytes, 3); err != nil {
		t.Errorf("a store of unknown space is refused: %v", err)
	}
	st.SetCapacity(30_000_000_000)
	wantFault(t, store.CheckSpace(t.Context(), st, saveBytes, 3), "57.6 GB", "3 kept and 1 being written", "14.4 GB each", "30.0 GB are free")
	st.SetCapacity(57_600_000_000)
	if err := store.CheckSpace(t.Context(), st, saveBytes, 3); err != nil {
		t.Error(err)
	}
}

// Case D2, disk full later: the save is held and tried again until there is space;
// the old one is kept until the new one is whole.
func TestCaseD2FullLater(t *testing.T) {
	st := store.NewMemory()
	save(t, st, 1)
	before, err := st.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	used := int64(0)
	for _, object := range before {
		used += object.Size
	}
	st.SetCapacity(used + 200) // less than a save
	held := 0
	hold := func(_ context.Context, attempt int, full error) error {
		held++
		if !errors.Is(full, store.ErrFull) || attempt != held+1 {
			t.Errorf("held before attempt %d: %v", attempt, full)
		}
		wantNewest(t, st, 1)
		if held == 3 {
			st.SetCapacity(-1) // somebody made space
		}
		return nil
	}
	c, err := store.Save(t.Context(), st, 2, build(2), hold)
	if err != nil || held != 3 {
		t.Fatalf("held %d times, %v", held, err)
	}
	wantCheckpoint(t, c, 2)
	wantNewest(t, st, 2)
}

// Who does not want to wait any longer for space ends with both reasons.
func TestCaseD2GiveUp(t *testing.T) {
	st := storetest.Wrap(store.NewMemory(), storetest.Fault{Op: storetest.Put, Err: store.ErrFull})
	tired := errors.New("tired")
	_, err := store.Save(t.Context(), st, 1, build(1), func(context.Context, int, error) error { return tired })
	if !errors.Is(err, tired) || !errors.Is(err, store.ErrFull) {
		t.Errorf("save gave %v", err)
	}
}

// Case D3: 500, 2500, 9000 and 10000 are there; sorted as text 9000 is the last.
// Names here are padded, so the fault would come at 8 digits; both are tried.
func TestCaseD3SortedAsNumbers(t *testing.T) {
	st := store.NewMemory()
	for _, n := range []uint64{500, 10000, 2500, 9000} {
		save(t, st, n)
	}
	wantNewest(t, st, 10000)
	save(t, st, 99_999_999)
	save(t, st, 100_000_000)
	wantNewest(t, st, 100_000_000)
	result, err := store.Prune(t.Context(), st, 1)
	if err != nil || len(result.Removed) != 5 {
		t.Fatalf("removed %v, %v", result.Removed, err)
	}
	wantNewest(t, st, 100_000_000)
}

// Case D4: a save in the background is ordered at 100 and ends when training is at
// 103. Number and meta say 100.
func TestCaseD4TimeOfOrder(t *testing.T) {
	st := store.NewMemory()
	step := 100
	captured := step
	ordered, trained, saved := make(chan bool), make(chan bool), make(chan error)
	go func() {
		_, err := store.Save(t.Context(), st, uint64(captured), func(ctx context.Context, w *store.Writer) (any, error) {
			close(ordered)
			<-trained // a slow disk
			return build(captured)(ctx, w)
		}, neverHold)
		saved <- err
	}()
	<-ordered
	step += 3
	close(trained)
	if err := <-saved; err != nil || step != 103 {
		t.Fatal(err)
	}
	wantNewest(t, st, 100)
}

// Case D5: save at step 1, then at once step 2 on the same memory. Counter and
// tensors are those of step 1, in 20 of 20 tries with random delays.
func TestCaseD5SavedBeforeNextStep(t *testing.T) {
	for try := range uint64(20) {
		random := rand.New(rand.NewPCG(try, 5))
		st := store.NewMemory()
		w, err := store.Begin(t.Context(), st, 1)
		if err != nil {
			t.Fatal(err)
		}
		tensors, counter := weights(1), counters{Step: 1}
		if err := errors.Join(w.Tensors(t.Context(), weightsPart, tensors, nil), w.JSON(t.Context(), statePart, &counter)); err != nil {
			t.Fatal(err)
		}
		// Step 2 goes on while the save ends.
		var training sync.WaitGroup
		training.Go(func() {
			for i := range random.IntN(10_000) {
				tensors[0].F32[0] = float32(i)
			}
			counter.Step = 2
		})
		c, err := w.Commit(t.Context(), counters{Step: 1})
		training.Wait()
		if err != nil {
			t.Fatal(err)
		}
		wantCheckpoint(t, c, 1)
	}
}

// Case D6: the last save, 50, is under way. Clean-up leaves it alone, whatever it
// finds of it, and it ends whole.
func TestCaseD6CleanUpBesideSave(t *testing.T) {
	ctx := t.Context()
	st := openFolder(t, t.TempDir())
	save(t, st, 30)
	save(t, st, 40)
	cleanUp := func() {
		if _, err := store.Prune(ctx, st, 1); err != nil {
			t.Error(err)
		}
		if n, err := st.Sweep(ctx, ""); n != 0 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
		wantNewest(t, st, 40, 50)
	}
	w, err := store.Begin(ctx, st, 50)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Tensors(ctx, weightsPart, weights(50), nil); err != nil {
		t.Fatal(err)
	}
	cleanUp()
	// An island in the middle of its part.
	island, err := st.Put(ctx, store.PartName(50, islandPart), func(out io.Writer) error {
		cleanUp()
		return store.WriteSafetensors(out, weights(50), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Existing(ctx, islandPart, island.Size, island.SHA256), w.JSON(ctx, statePart, counters{Step: 50})); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(ctx, counters{Step: 50}); err != nil {
		t.Fatal(err)
	}
	wantNewest(t, st, 50)
}

// Case D7: there is nothing to resume from. That is an error that says so, never a
// silent start from random weights.
func TestCaseD7NothingToResume(t *testing.T) {
	st := store.NewMemory()
	_, _, err := store.Newest(t.Context(), st)
	if !errors.Is(err, store.ErrNoCheckpoint) {
		t.Errorf("an empty store gives %v", err)
	}
	wantFault(t, err, "memory: there is nothing to load (no whole checkpoint)")
	save(t, st, 7)
	if err := st.Delete(t.Context(), store.PartName(7, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	_, _, err = store.Newest(t.Context(), st)
	if !errors.Is(err, store.ErrNoCheckpoint) {
		t.Errorf("a store without manifests gives %v", err)
	}
	wantFault(t, err, "checkpoint 7: its manifest is missing")
}

// Case D12: shard 2 of 3 is deleted. The error names the file; nothing is loaded
// that stays random. The same for a tensor that its file does not hold, and for a
// shard with a wrong digest.
func TestCaseD12MissingShard(t *testing.T) {
	ctx := t.Context()
	shards := []string{"shard-1.safetensors", "shard-2.safetensors", "shard-3.safetensors"}
	newCheckpoint := func() (*store.Memory, store.Checkpoint) {
		st := store.NewMemory()
		c, err := store.Save(ctx, st, 1, func(ctx context.Context, w *store.Writer) (any, error) {
			var errs []error
			for _, shard := range shards {
				errs = append(errs, w.Tensors(ctx, shard, weights(1), nil))
			}
			return nil, errors.Join(errs...)
		}, neverHold)
		if err != nil {
			t.Fatal(err)
		}
		return st, c
	}

	st, c := newCheckpoint()
	if err := st.Delete(ctx, store.PartName(1, shards[1])); err != nil {
		t.Fatal(err)
	}
	_, _, err := store.Newest(ctx, st)
	wantFault(t, err, "file shard-2.safetensors is missing")
	_, err = c.Tensors(ctx, shards[1])
	wantFault(t, err, "memory/checkpoints/00000001/shard-2.safetensors", "missing")
	wantFault(t, c.Verify(ctx), "memory/checkpoints/00000001/shard-2.safetensors", "missing")

	_, c = newCheckpoint()
	f, err := c.Tensors(ctx, shards[1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	into := append(weights(0), store.Tensor{Name: "layers.0.experts.3.gate", F32: make([]float32, 1)})
	wantFault(t, f.ReadAll(into), shards[1], `"layers.0.experts.3.gate": this tensor is missing`)
	if into[0].F32[0] != 0 {
		t.Error("a part was loaded before the tensor was missed")
	}

	st, c = newCheckpoint()
	damageByte(t, st, store.PartName(1, shards[1]))
	damageByte(t, st, store.PartName(1, shards[2]))
	wantFault(t, c.Verify(ctx), "memory/checkpoints/00000001/shard-2.safetensors", "SHA-256")
}

// Case D17: a user removes a checkpoint by hand; later the rotation reaches it. It
// warns and goes on. Here the rotation works on what it finds, so a checkpoint that
// is gone whole is not even reached; one that loses files meanwhile, or half, is.
func TestCaseD17RemovedByHand(t *testing.T) {
	ctx := t.Context()
	memory := store.NewMemory()
	for n := uint64(1); n <= 4; n++ {
		save(t, memory, n)
	}
	st := storetest.Wrap(memory, storetest.Fault{
		Op: storetest.Delete, Name: "checkpoints/00000002/*", Err: store.ErrNotFound, Effect: storetest.Done,
	})
	if err := memory.Delete(ctx, store.PartName(1, statePart)); err != nil {
		t.Fatal(err)
	}
	result, err := store.Prune(ctx, st, 2)
	if err != nil || len(result.Removed) != 2 {
		t.Fatalf("removed %v, %v; want 1 and 2", result.Removed, err)
	}
	if warnings := strings.Join(result.Warnings, "; "); !strings.Contains(warnings, "checkpoint 2: manifest.json was gone already") {
		t.Errorf("warnings are %q", warnings)
	}
	wantNewest(t, memory, 4)
}

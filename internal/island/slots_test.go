package island

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// The gathered digest is what the page says, for tensors of any size.
func TestGatheredDigestAgreesWithItsSlowTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var tensors []store.Tensor
		for i := range random.IntN(6) {
			tensor := store.Tensor{Name: "moment1." + strings.Repeat("x", i+1)}
			for range random.IntN(40_000) {
				tensor.F32 = append(tensor.F32, math.Float32frombits(random.Uint32()))
			}
			tensors = append(tensors, tensor)
		}
		var all []byte
		for _, x := range tensors {
			var raw []byte
			for _, v := range x.F32 {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
			}
			sum := sha256.Sum256(raw)
			all = append(append(append(all, x.Name...), 0), sum[:]...)
		}
		want := sha256.Sum256(all)
		if got := gathered.Digest(tensors); got != hex.EncodeToString(want[:]) {
			t.Fatalf("%s, want %x", got, want)
		}
	}
}

// narrowed writes a captured state with the tensors of a slot as BF16.
func narrowed(t *testing.T, c *capture, slot string, st store.Store, s *wire.IslandState) {
	t.Helper()
	var streams []store.Stream
	for _, x := range c.tensors {
		raw, dtype := wire.AppendF32(nil, x.F32), "F32"
		if strings.HasPrefix(x.Name, slot) {
			raw, dtype = nil, "BF16"
			for i, v := range x.F32 {
				short := uint16(math.Float32bits(v) >> 16)
				raw = binary.LittleEndian.AppendUint16(raw, short)
				x.F32[i] = math.Float32frombits(uint32(short) << 16)
			}
		}
		streams = append(streams, store.Stream{Name: x.Name, Dtype: dtype, Shape: x.Shape, Write: func(w io.Writer) error {
			_, err := w.Write(raw)
			return err
		}})
	}
	c.counters.Slots = digestsOf(c.tensors)
	meta, err := json.Marshal(c.counters)
	if err != nil {
		t.Fatal(err)
	}
	o, err := st.Put(t.Context(), s.Object, func(w io.Writer) error {
		return store.WriteStreams(w, streams, map[string]string{stateKey: string(meta)})
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Digest = o.SHA256
}

// Case D16: the checkpoint holds bf16 moments, the run wants fp32: they are loaded as they
// are, and one line tells it.
func TestD16MomentsOfAnotherType(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	c, err := captureNow(old)
	if err != nil {
		t.Fatal(err)
	}
	narrowed(t, c, "moment", st, s)
	l := reborn(t, run, data, old)
	got, err := restored(t, l, st, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Remarks) != 1 || !strings.Contains(got.Remarks[0], "are BF16 in the checkpoint and fp32 here") {
		t.Errorf("remarks %q", got.Remarks)
	}
	for i, want := range c.counters.Slots {
		if i >= len(got.Slots) || got.Slots[i].Slot != want.Name || got.Slots[i].Digest != want.Digest {
			t.Errorf("slot %d: %v, want %v", i, got.Slots, want)
		}
	}
	m, _ := engineOf(l).adam.Moments()
	for _, x := range slotTensors(firstSlot, run.Table(), m) {
		i := slices.IndexFunc(c.tensors, func(o store.Tensor) bool { return o.Name == x.Name })
		if !sameBits(x.F32, c.tensors[i].F32) {
			t.Fatalf("%s is not what was saved", x.Name)
		}
	}
}

// Case B11: a master that was rounded is not taken for the master.
func TestB11RoundedMasterIsRefused(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	c, err := captureNow(old)
	if err != nil {
		t.Fatal(err)
	}
	narrowed(t, c, weightsSlot, st, s)
	_, err = restored(t, reborn(t, run, data, old), st, s)
	if err == nil || !strings.Contains(err.Error(), "has type BF16: its fp32 master is lost") {
		t.Error(err)
	}
}

// What is loaded is compared: the file with what the checkpoint says of it, and weights and
// moments, gathered anew, with what they were when they were saved.
func TestStateIsCompared(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	right := s.Digest
	s.Digest = strings.Repeat("0", 64)
	var in *fault.Input
	if err := restoreNow(t, reborn(t, run, data, old), st, s); !errors.As(err, &in) || !strings.Contains(err.Error(), right[:12]) {
		t.Errorf("another file: %v", err)
	}
	c, err := captureNow(old)
	if err != nil {
		t.Fatal(err)
	}
	c.counters.Slots = digestsOf(c.tensors)
	c.tensors[len(c.tensors)-1].F32[0]++ // the last tensor of the second moments
	meta, err := json.Marshal(c.counters)
	if err != nil {
		t.Fatal(err)
	}
	o, err := store.PutTensors(t.Context(), st, s.Object, c.tensors, map[string]string{stateKey: string(meta)})
	if err != nil {
		t.Fatal(err)
	}
	s.Digest = o.SHA256
	if err := restoreNow(t, reborn(t, run, data, old), st, s); err == nil || !strings.Contains(err.Error(), "its moment2, gathered anew, have SHA-256") {
		t.Errorf("other moments: %v", err)
	}
}

// A state of a trainer that has no moments: a native island begins with none, and its rate rises.
func TestStateWithoutMoments(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	c, err := captureNow(old)
	if err != nil {
		t.Fatal(err)
	}
	c.tensors = slices.DeleteFunc(c.tensors, func(x store.Tensor) bool { return !strings.HasPrefix(x.Name, weightsSlot) })
	rewrite(t, c, st, s)
	l := reborn(t, run, data, old)
	got, err := restored(t, l, st, s)
	if err != nil {
		t.Fatal(err)
	}
	if l.joinSteps != 0 || engineOf(l).adam.Steps() != 0 || len(got.Slots) != 1 || len(got.Remarks) != 2 ||
		got.Remarks[0] != "moment1 begin at zero: the state has none" || !sameBits(l.Params(), old.Params()) {
		t.Errorf("%v; %d steps since it joined, %d of the optimizer", got, l.joinSteps, engineOf(l).adam.Steps())
	}
}

// A joiner takes moments and optimizer steps of a peer's state and nothing else, and its
// rate need not rise.
func TestJoinerTakesMoments(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, _ := trained(t, run, data, st)
	c, err := captureNow(old)
	if err != nil {
		t.Fatal(err)
	}
	s := &wire.IslandState{Object: stateName, MomentsOnly: true}
	rewrite(t, c, st, s)
	l := reborn(t, run, data, old)
	before := slices.Clone(l.Params())
	l.joinSteps = 0
	got, err := restored(t, l, st, s)
	if err != nil {
		t.Fatal(err)
	}
	m, v := engineOf(l).adam.Moments()
	wantM, wantV := engineOf(old).adam.Moments()
	if !sameBits(m, wantM) || !sameBits(v, wantV) || engineOf(l).adam.Steps() != engineOf(old).adam.Steps() || l.joinSteps != -1 {
		t.Error("it has not the peer's moments and steps")
	}
	if !sameBits(l.Params(), before) || l.position != 0 || l.step != 0 || len(got.Slots) != 2 {
		t.Errorf("it took more: position %d, step %d, %v", l.position, l.step, got)
	}
}

// Files that a trainer saved itself must be as it saved them.
func TestTrainersFilesAreCompared(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	path := filepath.Join(t.TempDir(), "rank-1.pt")
	content := bytes.Repeat([]byte("optimizer"), 100)
	sum := sha256.Sum256(content)
	s.Files = []*wire.StateFile{{Rank: 1, Path: path, SizeBytes: uint64(len(content)), Digest: hex.EncodeToString(sum[:])}}
	altered := slices.Clone(content)
	altered[450]++
	for want, write := range map[string][]byte{
		"cannot be read": nil, "has 8 bytes, the checkpoint says 900": content[:8], "has SHA-256 ": altered, "": content,
	} {
		os.Remove(path) //nolint:errcheck // it may not be there
		if write != nil {
			if err := os.WriteFile(path, write, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := restoreNow(t, reborn(t, run, data, old), st, s)
		if want == "" && err == nil {
			continue
		}
		var in *fault.Input
		if !errors.As(err, &in) || in.Where != "state of rank 1" || in.Value != path || !strings.Contains(in.Problem, want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

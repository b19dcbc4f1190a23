package island

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

const stateName = "checkpoints/00000001/islands/x.safetensors"

// trained is a learner after 12 steps with its state saved, and that state.
func trained(t testing.TB, run runfile.Run, data *corpus.Set, st store.Store) (*Learner, *wire.IslandState) {
	t.Helper()
	l := seeded(t, run, data)
	l.Lease(0, 400)
	steps(t, l, 7)
	fl, err := l.contribute(1, false)
	if err != nil {
		t.Fatal(err)
	}
	l.fragments[1].flight.verdict = &verdict{ruling: wire.Ruling_MERGED, version: 1, stamp: 448, value: slices.Clone(fl.sent)}
	l.adopt(1)
	steps(t, l, 5)
	c, err := captureNow(l)
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.write(context.Background(), st, stateName)
	if err != nil {
		t.Fatal(err)
	}
	s := &wire.IslandState{Object: o.Name, Digest: o.SHA256, Position: uint64(l.position)}
	for range l.fragments {
		s.Keep = append(s.Keep, true)
	}
	return l, s
}

// reborn is a learner that was seeded with what the syncer holds of old.
func reborn(t testing.TB, run runfile.Run, data *corpus.Set, old *Learner) *Learner {
	t.Helper()
	l := seeded(t, run, data)
	for p, f := range old.fragments {
		if err := l.seed(p, f.version, 0, f.anchor); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// A learner that takes over its saved state goes on with the same bits. Case B11: the
// fp32 masters are in that state, and the digests of all tensors are the same after.
func TestRestoredLearnerGoesOn(t *testing.T) {
	t.Run("weights", func(t *testing.T) { restoredLearnerGoesOn(t, nil) })
	t.Run("weights and state", func(t *testing.T) { restoredLearnerGoesOn(t, withState) })
}

func restoredLearnerGoesOn(t *testing.T, change func(*runfile.Run)) {
	run, data, _ := tiny(t, change)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	l := reborn(t, run, data, old)
	if err := restoreNow(t, l, st, s); err != nil {
		t.Fatal(err)
	}
	if l.step != 12 || l.position != 48 || l.leases.granted != 48 {
		t.Errorf("step %d, position %d, granted %d", l.step, l.position, l.leases.granted)
	}
	if got, want := masterDigests(l), masterDigests(old); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Error("master weights have other digests after the restore")
	}
	l.Lease(48, 400)
	want, got := steps(t, old, 6), steps(t, l, 6)
	if !slices.Equal(got, want) || !sameBits(l.Params(), old.Params()) {
		t.Errorf("it went on with\n%+v, want\n%+v", got, want)
	}
	for p := range l.fragments {
		a, err := old.contribute(p, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.contribute(p, false)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.payload, b.payload) || a.message.FromPosition != b.message.FromPosition || a.message.Tokens != b.message.Tokens ||
			!slices.Equal(a.message.TensorTokens, b.message.TensorTokens) || a.message.BaseVersion != b.message.BaseVersion {
			t.Errorf("fragment %d: %v, want %v", p, b.message, a.message)
		}
	}
}

// captureNow captures a native learner, which does so at once.
func captureNow(l *Learner) (c *capture, err error) {
	l.capture(1, "", func(got *capture, failed error) { c, err = got, failed })
	return c, err
}

// restoreNow restores one.
func restoreNow(t testing.TB, l *Learner, st store.Store, s *wire.IslandState) error {
	t.Helper()
	_, err := restored(t, l, st, s)
	return err
}

// restored restores one and gives what it reports.
func restored(t testing.TB, l *Learner, st store.Store, s *wire.IslandState) (got *wire.Restored, err error) {
	t.Helper()
	l.restore(t.Context(), st, s, func(r *wire.Restored, failed error) { got, err = r, failed })
	return got, err
}

// rewrite puts a state in the place of the one that s names.
func rewrite(t testing.TB, c *capture, st store.Store, s *wire.IslandState) {
	t.Helper()
	o, err := c.write(t.Context(), st, s.Object)
	if err != nil {
		t.Fatal(err)
	}
	s.Digest = o.SHA256
}

// masterDigests are those of a learner's weights, tensor by tensor.
func masterDigests(l *Learner) (digests [][]byte) {
	for _, f := range l.fragments {
		own := make([]float32, f.Size)
		f.Gather(own, l.Params())
		digests = append(digests, f.Digests(own)...)
	}
	return digests
}

// A fragment that is not kept starts at the syncer's value and counts from here: its
// samples before are not sent again.
func TestRestoreKeepsOnlyWhatHolds(t *testing.T) {
	run, data, _ := tiny(t, nil)
	st := store.NewMemory()
	old, s := trained(t, run, data, st)
	l := reborn(t, run, data, old)
	s.Keep[0] = false
	newer := make([]float32, l.fragments[2].Size)
	if err := l.seed(2, 5, 9000, newer); err != nil { // another version than the saved one
		t.Fatal(err)
	}
	if err := restoreNow(t, l, st, s); err != nil {
		t.Fatal(err)
	}
	for p, f := range l.fragments {
		own, was := make([]float32, f.Size), make([]float32, f.Size)
		f.Gather(own, l.Params())
		f.Gather(was, old.Params())
		kept := p == 1 || p == 3
		if kept != sameBits(own, was) || kept == sameBits(own, f.anchor) {
			t.Errorf("fragment %d: kept %v", p, !kept)
		}
		if l.dirty(f) != kept {
			t.Errorf("fragment %d: dirty %v", p, l.dirty(f))
		}
	}
	if got := l.clock.at(l.ownTokens()); got != 9000 {
		t.Errorf("clock at %d tokens, the model is at 9000", got)
	}
}

func TestCaptureSaysWhyNot(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	l.Lease(0, 8)
	steps(t, l, 1)
	if _, err := l.contribute(2, false); err != nil {
		t.Fatal(err)
	}
	if _, err := captureNow(l); err == nil || !strings.Contains(err.Error(), "fragment 2 has a contribution under way") {
		t.Errorf("%v", err)
	}
	l.fragments[2].flight = nil
	_, v := engineOf(l).adam.Moments()
	v[3] = float32(math.Inf(1))
	if _, err := captureNow(l); err == nil || !strings.Contains(err.Error(), "moment2 hold a value that is not finite") {
		t.Errorf("%v", err)
	}
}

// A captured state does not follow the learner.
func TestCaptureIsACopy(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	l.Lease(0, 40)
	steps(t, l, 2)
	c, err := captureNow(l)
	if err != nil {
		t.Fatal(err)
	}
	before, counts := slices.Clone(c.tensors[0].F32), slices.Clone(c.counters.Experts)
	steps(t, l, 3)
	if !sameBits(c.tensors[0].F32, before) || !slices.Equal(c.counters.Experts, counts) || c.counters.Step != 2 {
		t.Error("it changed")
	}
}

func TestStateThatDoesNotFit(t *testing.T) {
	run, data, _ := tiny(t, nil)
	for name, bad := range map[string]struct {
		change func(*capture, *wire.IslandState)
		why    string
	}{
		"later format":    {func(c *capture, _ *wire.IslandState) { c.counters.Format = StateFormat + 1 }, "format 4"},
		"fewer fragments": {func(c *capture, _ *wire.IslandState) { c.counters.Fragments = c.counters.Fragments[1:] }, "3 fragments"},
		"fewer decisions": {func(_ *capture, s *wire.IslandState) { s.Keep = s.Keep[1:] }, "fragments"},
		"other experts": {func(c *capture, _ *wire.IslandState) {
			c.counters = counters{Format: StateFormat, Fragments: make([]fragmentCounters, 4)}
		}, "0 experts"},
		"sent experts":     {func(c *capture, _ *wire.IslandState) { c.counters.Fragments[1].SentExperts = nil }, "experts"},
		"sent and not yet": {func(c *capture, _ *wire.IslandState) { c.counters.Fragments[1].SentPosition = 49 }, "sent_position_samples is 49 of 48"},
		"other samples":    {func(_ *capture, s *wire.IslandState) { s.Position = 44 }, "position_samples is 48 with 0 withheld, the coordinator counts 44 with 0"},
		"other holes":      {func(_ *capture, s *wire.IslandState) { s.Withheld = 4 }, "position_samples is 48 with 0 withheld, the coordinator counts 48 with 4"},
		"a missing tensor": {func(c *capture, _ *wire.IslandState) { c.tensors = c.tensors[1:] }, "weights.embedding"},
		"another shape":    {func(c *capture, _ *wire.IslandState) { c.tensors[0].Shape, c.tensors[0].F32 = []int{1}, []float32{0} }, "weights.embedding"},
		"no such object":   {func(_ *capture, s *wire.IslandState) { s.Object = "nothing" }, "nothing"},
	} {
		st := store.NewMemory()
		old, s := trained(t, run, data, st)
		c, err := captureNow(old)
		if err != nil {
			t.Fatal(err)
		}
		written := &wire.IslandState{Object: stateName}
		bad.change(c, s)
		rewrite(t, c, st, written)
		s.Digest = written.Digest
		l := reborn(t, run, data, old)
		if err := restoreNow(t, l, st, s); err == nil || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%s: %v, want %q", name, err, bad.why)
		}
	}
}

// A joiner that took a peer's moments has made fewer steps than its optimizer counts, and
// what it saves is taken back.
func TestCountersOfAJoinerWithAPeersMoments(t *testing.T) {
	c, err := decodeCounters([]byte(`{"format":3,"step":12,"position_samples":48,"adam_steps":70,"join_steps":-1,
		"slots":[{"name":"weights","gathered_sha256":"` + strings.Repeat("a0", 32) + `"}]}`))
	if err != nil || c.AdamSteps != 70 {
		t.Fatalf("%+v, %v", c, err)
	}
}

// FuzzCounters: counters that are taken are such as a learner can have, so that
// nothing that is sent next is negative, and they come out the same when they are
// written again.
func FuzzCounters(f *testing.F) {
	good, err := json.Marshal(counters{
		Format: StateFormat, Step: 12, Position: 48, Skipped: 1, Withheld: 4, AdamSteps: 11, JoinSteps: -1, ClockStamp: 448, ClockOwn: 448,
		Losses: []float64{2.5}, Experts: []int64{0, 9}, Fragments: []fragmentCounters{{SentExperts: []int64{0, 0}}, {1, 7, 28, 4, []int64{0, 4}}},
		Slots: []savedSlot{{weightsSlot, strings.Repeat("a0", 32)}, {secondSlot, strings.Repeat("b1", 32)}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, change := range [][2]string{
		{`"format":3`, `"format":4`}, {`"format":3`, `"format":2`}, {`"format":3`, `"format":3e0`}, {`moment2`, `weights`}, {`moment2`, `moment3`}, {`weights`, `moment1`}, {`b1b1`, `b1`}, {`"withheld_samples":4`, `"withheld_samples":-1`},
		{`"withheld_samples":4`, `"withheld_samples":49`}, {`"sent_withheld_samples":4`, `"sent_withheld_samples":5`}, {`2.5`, `1e999`}, {`"step":12`, `"step":3`}, {`"step":12`, `"step":-1`}, {`48`, `-48`},
		{`"join_steps":-1`, `"join_steps":-2`}, {`"join_steps":-1`, `"join_steps":13`}, {`28`, `49`}, {`28`, `-1`}, {`[0,4]`, `[0,10]`},
		{`[0,4]`, `[-1,4]`}, {`[0,4]`, `[4]`}, {`[0,9]`, `[0,-9]`}, {`[0,9]`, `null`}, {`"sent_step":7`, `"sent_step":13`}, {`448`, `-448`}, {`"surplus_tokens":0`, `"surplus_tokens":-1`},
	} {
		f.Add([]byte(strings.Replace(string(good), change[0], change[1], 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCounters(data)
		if err != nil {
			return
		}
		if c.Position < 0 || c.Surplus < 0 || c.Skipped > c.Step || c.JoinSteps < -1 || c.ClockStamp < 0 || c.ClockOwn < 0 {
			t.Fatalf("taken: %+v", c)
		}
		for _, f := range c.Fragments {
			if f.SentStep > c.Step || f.SentPosition < 0 || f.SentPosition > c.Position {
				t.Fatalf("taken: %+v", c)
			}
			if trained := (c.Position - f.SentPosition) - (c.Withheld - f.SentWithheld); trained < 0 || f.SentWithheld < 0 || f.SentWithheld > f.SentPosition {
				t.Fatalf("taken, with %d samples to send: %+v", trained, c)
			}
			for i := range c.Experts {
				if f.SentExperts[i] < 0 || f.SentExperts[i] > c.Experts[i] {
					t.Fatalf("taken: %+v", c)
				}
			}
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeCounters(again); err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
	})
}

// The table of the page names every key.
func TestPageHasTheCounters(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []any{counters{}, fragmentCounters{}} {
		for field := range reflect.TypeOf(of).Fields() {
			if key := field.Tag.Get("json"); !strings.Contains(string(data), "`"+key+"`") {
				t.Errorf("wire.md says nothing of %s", key)
			}
		}
	}
}

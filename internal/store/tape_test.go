package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

const tapePath = "tape/era-0001/coord"

// note is a record of the tests.
type note struct {
	Kind string `json:"kind"`
	ID   int    `json:"id"`
}

func notes(ids ...int) []any {
	var records []any
	for _, id := range ids {
		records = append(records, note{Kind: "note", ID: id})
	}
	return records
}

// noteIDs gives the ids of a tape's notes, and -era for a closing record.
func noteIDs(t rapid.TB, segments []store.Segment) []int {
	t.Helper()
	var ids []int
	for _, segment := range segments {
		if era, closed := segment.ClosedBy(); closed {
			ids = append(ids, -int(era))
			continue
		}
		for _, record := range segment.Records {
			var n note
			if err := json.Unmarshal(record, &n); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func openSequence(t rapid.TB, st store.Store) *store.Sequence {
	t.Helper()
	s, _, err := store.OpenSequence(context.Background(), st, tapePath)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantTape(t rapid.TB, st store.Store, want ...int) {
	t.Helper()
	segments, err := store.ReadSequence(context.Background(), st, tapePath)
	if err != nil {
		t.Fatal(err)
	}
	if got := noteIDs(t, segments); !slices.Equal(got, want) {
		t.Fatalf("the tape holds %v, want %v", got, want)
	}
}

func appendNotes(t rapid.TB, s *store.Sequence, wantNumber uint64, ids ...int) {
	t.Helper()
	n, err := s.Append(context.Background(), notes(ids...)...)
	if err != nil || n != wantNumber {
		t.Fatalf("append gave %d, %v; want %d", n, err, wantNumber)
	}
}

func wantTaken(t rapid.TB, s *store.Sequence, ids ...int) {
	t.Helper()
	if _, err := s.Append(context.Background(), notes(ids...)...); !errors.Is(err, store.ErrTaken) {
		t.Fatalf("append gave %v, want %v", err, store.ErrTaken)
	}
}

func TestTapeAppendAndReopen(t *testing.T) {
	st := store.NewMemory()
	s := openSequence(t, st)
	appendNotes(t, s, 1, 1)
	appendNotes(t, s, 2, 2, 3)
	again, segments, err := store.OpenSequence(t.Context(), st, tapePath)
	if err != nil {
		t.Fatal(err)
	}
	if got := noteIDs(t, segments); !slices.Equal(got, []int{1, 2, 3}) || segments[1].Number != 2 || segments[1].Nonce == segments[0].Nonce {
		t.Fatalf("read %v of %+v", got, segments)
	}
	appendNotes(t, again, 3, 4)
	wantTaken(t, s, 5)
	wantTaken(t, s, 6)
	wantTape(t, st, 1, 2, 3, 4)
}

// The name of a sequence that begins like another's does not matter.
func TestTapeNeighbours(t *testing.T) {
	st := store.NewMemory()
	appendNotes(t, openSequence(t, st), 1, 1)
	s, segments, err := store.OpenSequence(t.Context(), st, tapePath+"2")
	if err != nil || len(segments) != 0 {
		t.Fatal(segments, err)
	}
	appendNotes(t, s, 1, 7)
	wantTape(t, st, 1)
}

// Two writers with equal records: the nonce keeps the second from taking the
// first's commit for its own.
func TestTapeEqualRecords(t *testing.T) {
	st := store.NewMemory()
	a, b := openSequence(t, st), openSequence(t, st)
	appendNotes(t, a, 1, 1)
	wantTaken(t, b, 1)
	wantTape(t, st, 1)
}

func TestTapeRefusesRecords(t *testing.T) {
	s := openSequence(t, store.NewMemory())
	for name, records := range map[string][]any{
		"none": nil, "number": {7}, "list": {[]int{1}}, "null": {nil}, "not JSON": {json.RawMessage("{")}, "unencodable": {func() {}},
	} {
		if _, err := s.Append(t.Context(), records...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	appendNotes(t, s, 1, 1) // nothing of that is pending
}

func TestTapeAfterFailures(t *testing.T) {
	cases := []struct {
		name      string
		faults    []storetest.Fault
		wantFirst bool // the first Append succeeds in spite of the faults
		wantErr   error
	}{
		{"nothing happened", []storetest.Fault{{Op: storetest.Create, Nth: 1}}, true, nil},
		{"reply lost", []storetest.Fault{{Op: storetest.Create, Nth: 1, Effect: storetest.Done}}, true, nil},
		{"store away", []storetest.Fault{{Op: storetest.Create}}, false, storetest.ErrInjected},
		{"full", []storetest.Fault{{Op: storetest.Create, Err: store.ErrFull}}, false, store.ErrFull},
		{
			"reply lost, no reading back",
			[]storetest.Fault{{Op: storetest.Create, Nth: 1, Effect: storetest.Done}, {Op: storetest.Open}}, false, storetest.ErrInjected,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			st := storetest.Wrap(store.NewMemory())
			s := openSequence(t, st)
			st.Set(c.faults...)
			_, err := s.Append(t.Context(), notes(1)...)
			if (err == nil) != c.wantFirst || !errors.Is(err, c.wantErr) || errors.Is(err, store.ErrTaken) {
				t.Fatalf("append gave %v", err)
			}
			st.Set()
			if !c.wantFirst {
				if _, err := s.Append(t.Context(), notes(2)...); err == nil {
					t.Fatal("other records were accepted while segment 1 was pending")
				}
				appendNotes(t, s, 1, 1)
			}
			appendNotes(t, s, 2, 2)
			wantTape(t, st, 1, 2)
		})
	}
}

// A creation that was given up may still happen, even after another writer has
// begun; whoever comes second steps down.
func TestTapeDelayedCreate(t *testing.T) {
	st := storetest.Wrap(store.NewMemory())
	old := openSequence(t, st)
	st.Set(storetest.Fault{Op: storetest.Create, Effect: storetest.Delayed})
	if _, err := old.Append(t.Context(), notes(1)...); err == nil {
		t.Fatal("append succeeded")
	}
	st.Set()
	late := openSequence(t, st)
	st.Deliver(t.Context())
	wantTaken(t, late, 2)
	wantTape(t, st, 1)
	appendNotes(t, old, 1, 1) // learns that it happened
	wantTape(t, st, 1)
}

// closeSequence gives what was read on the way.
func closeSequence(ctx context.Context, st store.Store, era uint32) (segments []store.Segment, err error) {
	err = store.CloseSequence(ctx, st, tapePath, era, func(s store.Segment) { segments = append(segments, s) })
	return segments, err
}

func TestTapeClose(t *testing.T) {
	ctx := t.Context()
	st := store.NewMemory()
	old, other := openSequence(t, st), openSequence(t, st)
	appendNotes(t, old, 1, 1)
	segments, err := closeSequence(ctx, st, 2)
	if err != nil || !slices.Equal(noteIDs(t, segments), []int{1, -2}) {
		t.Fatalf("close gave %v, %v", noteIDs(t, segments), err)
	}
	wantTaken(t, old, 2)
	wantTaken(t, other, 2)
	wantTaken(t, openSequence(t, st), 2)
	if _, err := closeSequence(ctx, st, 3); err != nil {
		t.Fatal(err)
	}
	wantTape(t, st, 1, -2)
	want := `{"kind":"closed","by_era":2}`
	if got := string(segments[1].Records[0]); got != want {
		t.Errorf("the closing record is %s, want %s", got, want)
	}
}

// A sequence that was never begun can be closed too, against a writer that has
// opened it and written nothing yet.
func TestTapeCloseEmpty(t *testing.T) {
	st := store.NewMemory()
	old := openSequence(t, st)
	if _, err := closeSequence(t.Context(), st, 2); err != nil {
		t.Fatal(err)
	}
	wantTaken(t, old, 1)
	wantTape(t, st, -2)
}

// busyStore lets an old writer commit just before each of the first creations of
// others.
type busyStore struct {
	store.Store
	left   int
	append func()
}

func (b *busyStore) Create(ctx context.Context, name string, data []byte) error {
	if b.left > 0 {
		b.left--
		b.append()
	}
	return b.Store.Create(ctx, name, data)
}

// Closing goes on behind a writer that is faster.
func TestTapeCloseBusy(t *testing.T) {
	st := store.NewMemory()
	old := openSequence(t, st)
	next := 0
	busy := &busyStore{Store: st, left: 3, append: func() {
		next++
		appendNotes(t, old, uint64(next), next)
	}}
	segments, err := closeSequence(t.Context(), busy, 9)
	if err != nil || !slices.Equal(noteIDs(t, segments), []int{1, 2, 3, -9}) {
		t.Fatalf("close gave %v, %v", noteIDs(t, segments), err)
	}
	wantTaken(t, old, 4)
}

func TestTapeCloseAfterFailures(t *testing.T) {
	st := storetest.Wrap(store.NewMemory())
	appendNotes(t, openSequence(t, st), 1, 1)
	for _, faults := range [][]storetest.Fault{
		{{Op: storetest.List}}, {{Op: storetest.Open}}, {{Op: storetest.Create}},
		{{Op: storetest.Create, Nth: 1, Effect: storetest.Done}, {Op: storetest.Create, Nth: 2}},
	} {
		st.Set(faults...)
		if _, err := closeSequence(t.Context(), st, 2); !errors.Is(err, storetest.ErrInjected) {
			t.Fatalf("%+v: close gave %v", faults, err)
		}
	}
	st.Set()
	if _, err := closeSequence(t.Context(), st, 2); err != nil {
		t.Fatal(err)
	}
	wantTape(t, st, 1, -2)
}

// Whatever is lost, late or racing: what a writer was told is committed stands on
// the tape once and in order, nothing stands there twice, and a writer that was
// told to step down never commits again.
func TestTapeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		st := storetest.Wrap(store.NewMemory())
		type writer struct {
			*store.Sequence
			pending int // id to propose again, 0: none
			taken   bool
		}
		var writers []*writer
		acknowledged := map[int]uint64{}
		id := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			st.Set(drawFaults(t)...)
			switch rapid.SampledFrom([]string{"open", "append", "append", "append", "deliver"}).Draw(t, "step") {
			case "open":
				if s, _, err := store.OpenSequence(ctx, st, tapePath); err == nil {
					writers = append(writers, &writer{Sequence: s})
				}
			case "deliver":
				st.Deliver(ctx)
			case "append":
				if len(writers) == 0 {
					continue
				}
				w := rapid.SampledFrom(writers).Draw(t, "writer")
				if w.pending == 0 {
					id++
					w.pending = id
				}
				number, err := w.Append(ctx, notes(w.pending)...)
				switch {
				case err == nil && w.taken:
					t.Fatal("a writer that had stepped down committed")
				case err == nil:
					acknowledged[w.pending] = number
					w.pending = 0
				case errors.Is(err, store.ErrTaken):
					w.taken = true
				}
			}
		}
		st.Set()
		st.Deliver(ctx)
		checkTape(t, st, acknowledged)
	})
}

func drawFaults(t *rapid.T) []storetest.Fault {
	var faults []storetest.Fault
	for range rapid.IntRange(0, 2).Draw(t, "faults") {
		op := rapid.SampledFrom([]storetest.Op{storetest.Create, storetest.Create, storetest.Open}).Draw(t, "op")
		effect := storetest.Lost
		if op == storetest.Create {
			effect = storetest.Effect(rapid.IntRange(0, 2).Draw(t, "effect"))
		}
		faults = append(faults, storetest.Fault{Op: op, Nth: rapid.IntRange(0, 2).Draw(t, "nth"), Effect: effect})
	}
	return faults
}

func checkTape(t *rapid.T, st store.Store, acknowledged map[int]uint64) {
	segments, err := store.ReadSequence(context.Background(), st, tapePath)
	if err != nil {
		t.Fatal(err)
	}
	at := map[int]uint64{}
	for i, id := range noteIDs(t, segments) {
		if at[id] != 0 {
			t.Fatalf("record %d stands on the tape twice", id)
		}
		at[id] = uint64(i + 1)
	}
	for id, number := range acknowledged {
		if at[id] != number {
			t.Fatalf("record %d was acknowledged as segment %d and stands in %d", id, number, at[id])
		}
	}
}

// Damage names the file and what is wrong with it.
func TestTapeDamage(t *testing.T) {
	name := func(n int) string { return fmt.Sprintf("%s/%010d.jsonl", tapePath, n) }
	edit := func(n int, from, to string) func(t *testing.T, st store.Store) {
		return func(t *testing.T, st store.Store) {
			data, err := store.Get(t.Context(), st, name(n), 1<<20)
			if err != nil || !strings.Contains(string(data), from) {
				t.Fatalf("%q does not hold %q, %v", data, from, err)
			}
			overwrite(t, st, name(n), strings.Replace(string(data), from, to, 1))
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, st store.Store)
		want   string
	}{
		{"hole", func(t *testing.T, st store.Store) { st.Delete(t.Context(), name(2)) }, "0000000002.jsonl: this segment of the tape is missing"},
		{"empty", func(t *testing.T, st store.Store) { overwrite(t, st, name(2), "") }, "no complete first line"},
		{"cut off", edit(2, "\"id\":2}\n", "\"id\""), "line 2 is cut off"},
		{"fewer records", edit(2, "{\"kind\":\"note\",\"id\":2}\n", ""), "holds 0 records, its first line says 1"},
		{"not JSON", edit(2, "\"id\":2", "id:2"), "line 2 is not a JSON object"},
		{"no format", edit(2, "\"format\":2,", ""), "names no format"},
		{"later format", edit(2, "\"format\":2", "\"format\":3"), "its format is 3, this program knows formats up to 2"},
		{"unknown field", edit(2, "\"format\":2", "\"format\":2,\"more\":1"), "unknown field"},
		{"other sequence", edit(2, tapePath, "tape/era-0002/coord"), `belongs to sequence "tape/era-0002/coord"`},
		{"other number", edit(2, "\"number\":2", "\"number\":3"), "is number 3"},
		{"altered before", edit(1, "\"id\":1", "\"id\":8"), "0000000002.jsonl: this segment of the tape cannot be used (malformed: it does not continue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := store.NewMemory()
			s := openSequence(t, st)
			for n := 1; n <= 3; n++ {
				appendNotes(t, s, uint64(n), n)
			}
			c.damage(t, st)
			_, _, err := store.OpenSequence(t.Context(), st, tapePath)
			var input *fault.Input
			if !errors.As(err, &input) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("opening gave %v, want *fault.Input with %q", err, c.want)
			}
		})
	}
}

// A store that cannot be read is not the user's fault, and the tape may be tried
// again.
func TestTapeStoreAway(t *testing.T) {
	st := storetest.Wrap(store.NewMemory())
	appendNotes(t, openSequence(t, st), 1, 1)
	st.Set(storetest.Fault{Op: storetest.Open})
	_, err := store.ReadSequence(t.Context(), st, tapePath)
	var input *fault.Input
	if !errors.Is(err, storetest.ErrInjected) || errors.As(err, &input) {
		t.Fatalf("reading gave %v", err)
	}
}

func overwrite(t *testing.T, st store.Store, name, data string) {
	t.Helper()
	if _, err := st.Put(t.Context(), name, writing([]byte(data))); err != nil {
		t.Fatal(err)
	}
}

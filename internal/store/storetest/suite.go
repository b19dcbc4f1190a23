package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
)

// Suite checks that a driver keeps the promises of [store.Store]. newStore gives a
// fresh, empty store.
func Suite(t *testing.T, newStore func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, st store.Store)
	}{
		{"CreateOpenDelete", createOpenDelete},
		{"CreateRefusesSecond", createRefusesSecond},
		{"CreateRace", createRace},
		{"PutReplaces", putReplaces},
		{"PutFailureKeepsOld", putFailureKeepsOld},
		{"PutCancelledKeepsOld", putCancelledKeepsOld},
		{"PutRaceStaysWhole", putRaceStaysWhole},
		{"OpenFileKeepsContent", openFileKeepsContent},
		{"ReadAt", readAt},
		{"List", list},
		{"BadNames", badNames},
		{"CancelledContext", cancelledContext},
		{"ProveExclusive", proveExclusive},
		{"FreeBytes", freeBytes},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newStore(t)) })
	}
}

func createOpenDelete(t *testing.T, st store.Store) {
	ctx := t.Context()
	for _, data := range []string{"", "x", strings.Repeat("much ", 300_000)} {
		must(t, st.Create(ctx, "a/b/object", []byte(data)))
		wantContent(t, st, "a/b/object", data)
		must(t, st.Delete(ctx, "a/b/object"))
		wantIs(t, store.ErrNotFound, st.Delete(ctx, "a/b/object"))
		_, _, err := st.Open(ctx, "a/b/object")
		wantIs(t, store.ErrNotFound, err)
		wantNames(t, st, "")
	}
	_, _, err := st.Open(ctx, "a")
	wantIs(t, store.ErrNotFound, err)
}

func createRefusesSecond(t *testing.T, st store.Store) {
	ctx := t.Context()
	must(t, st.Create(ctx, "tape/1", []byte("first")))
	wantIs(t, store.ErrExists, st.Create(ctx, "tape/1", []byte("second")))
	wantIs(t, store.ErrExists, st.Create(ctx, "tape/1", []byte("first")))
	wantContent(t, st, "tape/1", "first")
	wantNames(t, st, "", "tape/1")
}

// createRace: of any number of racing creations exactly one succeeds, and its
// content is what is there.
func createRace(t *testing.T, st store.Store) {
	const racers, rounds = 4, 10
	for round := range rounds {
		name := fmt.Sprintf("race/%d", round)
		errs := make([]error, racers)
		together(racers, func(i int) {
			errs[i] = st.Create(t.Context(), name, fmt.Appendf(nil, "racer %d", i))
		})
		winner := slices.Index(errs, nil)
		if winner < 0 {
			t.Fatalf("%s: nobody won: %v", name, errs)
		}
		for i, err := range errs {
			if i != winner {
				wantIs(t, store.ErrExists, err)
			}
		}
		wantContent(t, st, name, fmt.Sprintf("racer %d", winner))
	}
}

func putReplaces(t *testing.T, st store.Store) {
	for _, data := range []string{"one", "", strings.Repeat("three ", 100_000)} {
		object, err := st.Put(t.Context(), "p/object", pieces(data, 1000))
		must(t, err)
		sum := sha256.Sum256([]byte(data))
		want := store.Object{Name: "p/object", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
		if object != want {
			t.Fatalf("put gave %+v, want %+v", object, want)
		}
		wantContent(t, st, "p/object", data)
	}
	wantIs(t, store.ErrExists, st.Create(t.Context(), "p/object", nil))
	wantNames(t, st, "", "p/object")
}

func putFailureKeepsOld(t *testing.T, st store.Store) {
	broken := errors.New("broken")
	write := func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return errors.Join(err, broken)
	}
	_, err := st.Put(t.Context(), "p", write)
	wantIs(t, broken, err)
	wantNames(t, st, "")
	must(t, st.Create(t.Context(), "p", []byte("old")))
	_, err = st.Put(t.Context(), "p", write)
	wantIs(t, broken, err)
	wantContent(t, st, "p", "old")
	wantNames(t, st, "", "p")
}

func putCancelledKeepsOld(t *testing.T, st store.Store) {
	must(t, st.Create(t.Context(), "p", []byte("old")))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := st.Put(ctx, "p", func(w io.Writer) error {
		_, err := io.WriteString(w, "the beginning of something new")
		cancel()
		if err != nil {
			return err
		}
		_, err = w.Write(make([]byte, 1<<20))
		return err
	})
	wantIs(t, context.Canceled, err)
	wantContent(t, st, "p", "old")
}

// putRaceStaysWhole: writers of one name do not mix; a reader finds the content of
// one of them.
func putRaceStaysWhole(t *testing.T, st store.Store) {
	const writers, size = 3, 200_000
	errs := make([]error, writers)
	together(writers, func(i int) {
		_, errs[i] = st.Put(t.Context(), "p/shared", pieces(strings.Repeat(string(rune('a'+i)), size), 4096))
	})
	must(t, errors.Join(errs...))
	data := content(t, st, "p/shared")
	if len(data) != size || strings.Trim(data, data[:1]) != "" {
		t.Fatalf("%d bytes that are not those of one writer", len(data))
	}
}

func openFileKeepsContent(t *testing.T, st store.Store) {
	must(t, st.Create(t.Context(), "p", []byte("old")))
	f, size, err := st.Open(t.Context(), "p")
	must(t, err)
	_, err = st.Put(t.Context(), "p", pieces("new content", 3))
	must(t, err)
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF || string(data) != "old" {
		t.Fatalf("read %q, %v; want the content at the time of opening", data, err)
	}
	must(t, f.Close())
	wantContent(t, st, "p", "new content")
}

func readAt(t *testing.T, st store.Store) {
	must(t, st.Create(t.Context(), "p", []byte("0123456789")))
	f, size, err := st.Open(t.Context(), "p")
	must(t, err)
	defer f.Close()
	if size != 10 {
		t.Fatalf("size %d, want 10", size)
	}
	for _, c := range []struct {
		offset int64
		want   string
		err    error
	}{{0, "012", nil}, {5, "567", nil}, {9, "9", io.EOF}, {10, "", io.EOF}} {
		buf := make([]byte, 3)
		n, err := f.ReadAt(buf, c.offset)
		if string(buf[:n]) != c.want || err != c.err {
			t.Errorf("ReadAt(%d) = %q, %v; want %q, %v", c.offset, buf[:n], err, c.want, c.err)
		}
	}
}

func list(t *testing.T, st store.Store) {
	names := []string{"a", "b-c/x", "b.c", "b/2", "b/c/10", "b/c/9", "b0"} // sorted as bytes
	for _, name := range slices.Backward(names) {
		must(t, st.Create(t.Context(), name, []byte(name)))
	}
	wantNames(t, st, "", names...)
	wantNames(t, st, "b/", "b/2", "b/c/10", "b/c/9")
	wantNames(t, st, "b/c", "b/c/10", "b/c/9")
	wantNames(t, st, "b/c/1", "b/c/10")
	wantNames(t, st, "b", names[1:]...)
	wantNames(t, st, "nothing/here")
	wantNames(t, st, "../")
	objects, err := st.List(t.Context(), "b/c/")
	must(t, err)
	for _, object := range objects {
		if object.Size != int64(len(object.Name)) {
			t.Errorf("%s: size %d, want %d", object.Name, object.Size, len(object.Name))
		}
	}
}

func badNames(t *testing.T, st store.Store) {
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".hidden", "a/.b", "a b", "ä", "a\\b", "a\x00", "a:b",
		strings.Repeat("n", 201), strings.Repeat("n/", 600) + "n",
	} {
		_, putErr := st.Put(t.Context(), name, pieces("", 1))
		_, _, openErr := st.Open(t.Context(), name)
		errs := []error{st.Create(t.Context(), name, nil), putErr, openErr, st.Delete(t.Context(), name)}
		if slices.Contains(errs, nil) {
			t.Errorf("name %q is accepted: create, put, open, delete gave %v", name, errs)
		}
	}
	wantNames(t, st, "")
}

func cancelledContext(t *testing.T, st store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, putErr := st.Put(ctx, "p", pieces("data", 1))
	_, _, openErr := st.Open(ctx, "p")
	_, listErr := st.List(ctx, "")
	_, _, freeErr := st.FreeBytes(ctx)
	for _, err := range []error{st.Create(ctx, "p", nil), putErr, openErr, listErr, st.Delete(ctx, "p"), freeErr} {
		wantIs(t, context.Canceled, err)
	}
	wantNames(t, st, "")
}

func proveExclusive(t *testing.T, st store.Store) {
	must(t, store.ProveExclusive(t.Context(), st))
	wantNames(t, st, "")
}

func freeBytes(t *testing.T, st store.Store) {
	n, known, err := st.FreeBytes(t.Context())
	must(t, err)
	if n < 0 || !known && n != 0 {
		t.Errorf("free bytes %d, known %v", n, known)
	}
	if st.Location() == "" {
		t.Error("no location")
	}
}

// together runs n calls at once and waits for them.
func together(n int, do func(i int)) {
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			do(i)
		})
	}
	start.Done()
	done.Wait()
}

// pieces writes data size bytes at a time.
func pieces(data string, size int) func(io.Writer) error {
	return func(w io.Writer) error {
		for piece := range slices.Chunk([]byte(data), size) {
			if n, err := w.Write(piece); err != nil || n != len(piece) {
				return fmt.Errorf("wrote %d of %d bytes: %w", n, len(piece), err)
			}
		}
		return nil
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t *testing.T, want, err error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func content(t *testing.T, st store.Store, name string) string {
	t.Helper()
	data, err := store.Get(t.Context(), st, name, 1<<30)
	must(t, err)
	return string(data)
}

func wantContent(t *testing.T, st store.Store, name, want string) {
	t.Helper()
	if got := content(t, st, name); !bytes.Equal([]byte(got), []byte(want)) {
		t.Fatalf("%s holds %.40q (%d bytes), want %.40q (%d bytes)", name, got, len(got), want, len(want))
	}
}

func wantNames(t *testing.T, st store.Store, prefix string, want ...string) {
	t.Helper()
	objects, err := st.List(t.Context(), prefix)
	must(t, err)
	var got []string
	for _, object := range objects {
		got = append(got, object.Name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %q gave %q, want %q", prefix, got, want)
	}
}

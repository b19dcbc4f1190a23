package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// A copy outlives what it was made of, in a folder (where it takes no space of its own) and in
// any other store; made twice it is the same.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	folder, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]store.Store{"folder": folder, "other": storetest.Wrap(folder), "memory": store.NewMemory()} {
		from, to := name+"/a/state", name+"/b/deep/state"
		if err := store.Copy(t.Context(), st, from, to); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: of nothing: %v", name, err)
		}
		if err := st.Create(t.Context(), from, []byte("content")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := store.Copy(t.Context(), st, from, to); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if name == "folder" {
			a, _ := os.Stat(filepath.Join(dir, from))
			b, _ := os.Stat(filepath.Join(dir, to))
			if !os.SameFile(a, b) {
				t.Error("it takes space twice")
			}
		}
		if err := st.Delete(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(t.Context(), st, to, 100); err != nil || string(got) != "content" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

package store_test

import (
	"testing"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Suite(t, func(*testing.T) store.Store { return store.NewMemory() })
}

func TestFolder(t *testing.T) {
	storetest.Suite(t, func(t *testing.T) store.Store { return openFolder(t, t.TempDir()) })
}

// A store without faults in it is still a store.
func TestFaultyWithoutFaults(t *testing.T) {
	storetest.Suite(t, func(*testing.T) store.Store { return storetest.Wrap(store.NewMemory()) })
}

func openFolder(t *testing.T, dir string) *store.Folder {
	t.Helper()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

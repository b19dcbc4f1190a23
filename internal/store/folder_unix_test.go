//go:build linux || darwin || freebsd

package store_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/store"
)

// A full disk and a used-up quota look alike to callers, and the old object stays.
func TestFolderFull(t *testing.T) {
	st := openFolder(t, t.TempDir())
	if err := st.Create(t.Context(), "object", []byte("old")); err != nil {
		t.Fatal(err)
	}
	for _, cause := range []error{unix.ENOSPC, unix.EDQUOT} {
		_, err := st.Put(t.Context(), "object", func(io.Writer) error { return fmt.Errorf("write: %w", cause) })
		if !errors.Is(err, store.ErrFull) || !errors.Is(err, cause) {
			t.Errorf("put gave %v", err)
		}
	}
	if data, err := store.Get(t.Context(), st, "object", 10); string(data) != "old" {
		t.Errorf("the object holds %q, %v", data, err)
	}
}

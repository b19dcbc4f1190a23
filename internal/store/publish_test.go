package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

// A folder takes its name if that is free or an empty folder's, and nothing else.
func TestNewFolder(t *testing.T) {
	for what, c := range map[string]struct {
		before func(final string) error
		ok     bool
	}{
		"free":  {func(string) error { return nil }, true},
		"empty": {func(final string) error { return os.Mkdir(final, 0o755) }, true},
		"link": {func(final string) error {
			return errors.Join(os.Mkdir(final+"-far", 0o755), os.Symlink(final+"-far", final))
		}, true},
		"full": {func(final string) error {
			return errors.Join(os.Mkdir(final, 0o755), os.WriteFile(filepath.Join(final, "theirs"), nil, 0o644))
		}, false},
		"file": {func(final string) error { return os.WriteFile(final, []byte("theirs"), 0o644) }, false},
	} {
		final := filepath.Join(t.TempDir(), "x")
		if err := c.before(final); err != nil {
			t.Fatal(err)
		}
		folder, err := MakeFolder(final)
		if err == nil {
			err = errors.Join(os.WriteFile(filepath.Join(folder.Dir(), "ours"), nil, 0o644), folder.Publish())
			if closeErr := folder.Close(); closeErr != nil {
				t.Errorf("%s: %v", what, closeErr)
			}
		}
		if in := (*fault.Input)(nil); !c.ok && !errors.As(err, &in) {
			t.Errorf("%s: %v is no bad input", what, err)
		}
		_, ours := os.Stat(filepath.Join(final, "ours"))
		if (err == nil) != c.ok || (ours == nil) != c.ok {
			t.Errorf("%s: %v, %v", what, err, ours)
		}
		if info, err := os.Stat(final); what == "file" && (err != nil || info.Size() != 6) {
			t.Errorf("their file is gone: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(final), tempPrefix+"*")); len(left) > 0 {
			t.Errorf("%s: left over: %v", what, left)
		}
	}
}

// A folder that could not be replaced in the end is refused in the beginning.
func TestNewFolderWhereWeAre(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{".", dir} {
		var in *fault.Input
		if _, err := MakeFolder(name); !errors.As(err, &in) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeFolder(full); err == nil {
		t.Error("a folder with something in it is taken")
	}
	if _, err := os.Stat(filepath.Join(full, "theirs")); err != nil {
		t.Error(err)
	}
}

func makeFolder(t *testing.T, final string) *NewFolder {
	t.Helper()
	folder, err := MakeFolder(final)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder.Dir(), "ours"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// What a killed process has left goes when the folder is made again; what a live one
// is writing stays, and so does what only looks alike.
func TestNewFolderSweeps(t *testing.T) {
	dir := t.TempDir()
	final := filepath.Join(dir, "x")
	dead, live := makeFolder(t, final), makeFolder(t, final)
	if err := dead.lock.Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	alike := filepath.Join(dir, tempPrefix+"x-y-0123456789abcdef")
	if err := os.Mkdir(alike, 0o755); err != nil {
		t.Fatal(err)
	}
	next := makeFolder(t, final)
	for path, want := range map[string]bool{dead.Dir(): false, live.Dir(): true, alike: true, next.Dir(): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
	if err := errors.Join(live.Publish(), live.Close()); err != nil {
		t.Fatal(err)
	}
	if err := next.Publish(); err == nil {
		t.Error("the second of two takes the name of the first")
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}

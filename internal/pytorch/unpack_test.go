package pytorch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestUnpackGivesTheWholePackage(t *testing.T) {
	root := t.TempDir()
	dir, err := Unpack(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mistura/__init__.py", "mistura/train.py", "mistura/py.typed"} {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	again, err := Unpack(root)
	if err != nil || again != dir {
		t.Errorf("the second time it is %q (%v) instead of %q", again, err, dir)
	}
	left, err := filepath.Glob(filepath.Join(root, "part-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A folder that somebody changed is made anew; what Python wrote beside its sources is no change.
func TestUnpackRepairsWhatWasChanged(t *testing.T) {
	root := t.TempDir()
	dir, err := Unpack(root)
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "mistura", "__pycache__")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cache); err != nil {
		t.Error("a folder that was whole was made anew")
	}
	train := filepath.Join(dir, "mistura", "train.py")
	want, err := os.ReadFile(train)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(train, []byte("print('changed')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(root); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(train); err != nil || string(got) != string(want) {
		t.Errorf("train.py is still changed (%v)", err)
	}
}

func TestUnpackBySeveralAtOnce(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Unpack(root); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestUnpackSaysWhereItCannotWrite(t *testing.T) {
	root := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if dir, err := Unpack(root); err == nil {
		t.Errorf("unpacked into a file: %s", dir)
	}
}

// The danger: without a home the package is unpacked below the temporary folder, which is
// everybody's, under a name that can be known before. Somebody who was there first must not
// choose what is run.
func TestUnpackRefusesWhatOthersPrepared(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	root := filepath.Join(temp, fmt.Sprintf("mistura-%d", os.Getuid()))
	elsewhere := t.TempDir()
	for what, prepare := range map[string]func() error{
		"is no folder":             func() error { return os.Symlink(elsewhere, root) },
		"can be written by others": func() error { return errors.Join(os.Mkdir(root, 0o700), os.Chmod(root, 0o777)) },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if dir, err := Unpack(""); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "set XDG_CACHE_HOME") {
			t.Errorf("%s: unpacked to %q, %v", what, dir, err)
		}
		if err := os.Remove(root); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("%v was written where a link pointed, %v", entries, err)
	}
	dir, err := Unpack("")
	if err != nil || filepath.Dir(dir) != root {
		t.Fatalf("%s, %v", dir, err)
	}
	if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if os.Getuid() != 0 { // only root can give a folder away
		return
	}
	if err := os.Chown(root, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(""); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("%v", err)
	}
}

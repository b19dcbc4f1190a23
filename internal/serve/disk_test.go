//go:build linux

package serve_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

// smallDisk is a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting a file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk takes all of the space that is left, until it is let go.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "of-somebody-else")
	f, err := os.Create(name)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the disk does not fill up: %v", err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// D2 on a real disk that somebody else fills up: the run and its islands, which are
// processes of their own, say so in one line and wait; killed in that state the run does not begin
// anew while the disk is full, and goes on with every sample once when it is not.
func TestD2RealDiskFillsUp(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "24m")
	dir := filepath.Join(disk, "run")
	run := tiny(t, func(run *runfile.Run) {
		run.Tokens, run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*400, stepTokens*40, 1
	})
	var free func()
	c := begin(t, dir, run, false, func(c *trial, e ledger.Event) {
		if _, saved := e.(ledger.CheckpointSaved); saved && free == nil {
			free = fillDisk(t, disk)
		}
	})
	said := ""
	c.until(func(e ledger.Event) bool {
		switch e := e.(type) {
		case ledger.StorePaused:
			said = e.Reason
		case ledger.CheckpointHeld:
			said = e.Reason
		}
		return said != ""
	})
	if !strings.Contains(said, store.ErrFull.Error()) || strings.Contains(said, "\n") {
		t.Errorf("it says %q", said)
	}
	c.kill()

	_, err := begin(t, dir, run, true, nil).wait()
	var in *fault.Input
	if !errors.As(err, &in) || !strings.Contains(err.Error(), "free") || strings.Contains(err.Error(), "\n") {
		t.Errorf("resumed on a full disk: %v", err)
	}
	free()
	c = begin(t, dir, run, true, nil)
	c.finish()
	if start := recorded[ledger.RunStarted](c)[0]; start.TokensDone < 40*stepTokens {
		t.Errorf("it goes on with %d tokens", start.TokensDone)
	}
}

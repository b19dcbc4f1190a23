package attach

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

// refusing is a folder, as Stat sees it, in which nothing can be made.
func refusing(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "full")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The danger: a container's /dev/shm has 64 MB. The trainer dies of SIGBUS, or it is slow and nobody
// knows why: what it shares is on a disk.
func TestSharedMemoryThatDoesNotFit(t *testing.T) {
	_, err := shareInOneOf(refusing(t), refusing(t), 28e9)
	var in *fault.Input
	if !errors.As(err, &in) || in.Value != "28000.0 MB" || !strings.Contains(in.Next, "--shm-size") || !strings.Contains(in.Problem, "there is no room for it in ") {
		t.Errorf("%v", err)
	}
	for _, c := range []struct {
		shm  string
		told bool
	}{{refusing(t), true}, {t.TempDir(), false}, {filepath.Join(t.TempDir(), "not", "there"), false}} {
		m, err := shareInOneOf(c.shm, t.TempDir(), 100)
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		(&Rank{Hello: &Hello{Rank: 3}, log: slog.New(slog.NewTextHandler(&said, nil))}).tellSpilt(m)
		m.close()
		if got := said.String(); (got != "") != c.told || c.told && (!strings.Contains(got, "instead_of=/dev/shm") || !strings.Contains(got, "--shm-size")) {
			t.Errorf("in %s: %q", c.shm, got)
		}
	}
}

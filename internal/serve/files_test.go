package serve

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// A resume compares the files that are on the coordinator's host, and no others; those of the
// run folder are found wherever it is.
func TestFilesOnTheCoordinatorsHost(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "rank-0000")
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("0", 64)
	inside := savedFile(&wire.StateFile{Path: filepath.Join(dir, "checkpoints", "3", "rank-0000"), SizeBytes: 8, Digest: digest}, dir)
	if inside.Path != "checkpoints/3/rank-0000" {
		t.Errorf("a file of the run folder is at %q", inside.Path)
	}
	outside := savedFile(&wire.StateFile{Path: elsewhere, SizeBytes: 8, Digest: digest}, dir)
	if outside.Path != elsewhere {
		t.Errorf("a file outside the run folder is at %q", outside.Path)
	}
	for name, c := range map[string]struct {
		file     SavedFile
		serve    bool
		hosts    []SavedHost
		compared string // path; empty: it is not
	}{
		"in the run folder":              {inside, false, nil, filepath.Join(dir, "checkpoints", "3", "rank-0000")},
		"in the run folder, under serve": {inside, true, nil, filepath.Join(dir, "checkpoints", "3", "rank-0000")},
		"elsewhere here":                 {outside, false, nil, elsewhere},
		"on an island's host":            {outside, true, nil, ""},
		"on one of many hosts":           {outside, false, []SavedHost{{Host: 1}}, ""},
	} {
		op := &opened{store: st, outside: c.serve, run: runfile.Run{Islands: []runfile.Island{{Name: "a"}}}}
		err := op.checkFiles(t.Context(), Meta{Islands: map[string]SavedPart{"a": {Files: []SavedFile{c.file}, Hosts: c.hosts}}})
		var in *fault.Input
		switch {
		case c.compared == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.compared != "" && (!errors.As(err, &in) || in.Value != c.compared || !errors.Is(missing(c.compared), os.ErrNotExist)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func missing(path string) error {
	_, err := os.Stat(path)
	return err
}

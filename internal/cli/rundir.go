package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// runsFolder holds the folders of runs that were given none.
const runsFolder = "runs"

// runFileName is the resolved run in its folder.
const runFileName = "run.yaml"

// dataFolder holds the token files of a run; it is made before the run begins.
const dataFolder = "data"

// claim makes the folder of a new run: the one that is asked for, which must be new,
// empty or what a run left that was killed while it read its text, or the next free
// runs/NAME-N. Undo takes away what claim has made as long as no run has begun in it.
func claim(run runfile.Run) (dir string, undo func(), err error) {
	if run.Out == "" {
		return claimNext(runsFolder, run.Name)
	}
	entries, err := os.ReadDir(run.Out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return claimNew(run)
	case err != nil:
		return "", nil, usage(run.Where("out"), run.Out, "cannot be used as run folder: "+reason(err), "give a new folder")
	case holdsRun(run.Out):
		return "", nil, usage(run.Where("out"), run.Out, "already holds a run", besideRun(run.Out))
	case len(entries) > 0 && !onlyLeftovers(run.Out, entries):
		return "", nil, usage(run.Where("out"), run.Out, "is not empty", "give a new folder")
	}
	return run.Out, func() {}, nil
}

// besideRun says what to do when a folder holds a run. One that has saved nothing, and
// a model that was imported, cannot be gone on with.
func besideRun(dir string) string {
	for _, name := range []string{runFileName, "checkpoints"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "give a new folder"
		}
	}
	return "go on with it by --resume " + shellQuote(dir) + ", or give a new folder"
}

// onlyLeftovers reports whether there is nothing but what a run leaves that was killed
// before it began: its token files, which are used again, or written anew when they are not
// whole, and what was there while it waited for its first weights.
func onlyLeftovers(dir string, entries []fs.DirEntry) bool {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e fs.DirEntry) bool { return e.Name() == store.ClaimName }) // who locks it says so
	for _, e := range entries {
		switch e.Name() {
		case serve.SeedName, serve.CoordinatorName, authority.Folder, "logs", "islands":
		case dataFolder:
			leftover, err := corpus.Leftover(filepath.Join(dir, dataFolder))
			if err != nil || !leftover {
				return false
			}
		default:
			return false
		}
	}
	_, seeded := os.Lstat(filepath.Join(dir, serve.CoordinatorName))
	return seeded == nil || len(entries) == 0 || len(entries) == 1 && entries[0].Name() == dataFolder
}

func claimNew(run runfile.Run) (string, func(), error) {
	if err := os.MkdirAll(run.Out, 0o755); err != nil {
		return "", nil, usage(run.Where("out"), run.Out, "cannot be made: "+reason(err), "give another folder")
	}
	return run.Out, func() { abandon(run.Out) }, nil
}

// claimNext makes the next folder NAME-N. Of two runs that start at once each gets
// its own, for making a folder fails when it exists.
func claimNext(parent, name string) (string, func(), error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, usage("--out", parent, "cannot be made: "+reason(err), "give the run folder by --out")
	}
	for {
		n, err := lastNumber(parent, name)
		if err != nil {
			return "", nil, fmt.Errorf("looking for a free run folder: %w", err)
		}
		dir := filepath.Join(parent, fmt.Sprintf("%s-%d", name, n+1))
		err = os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", nil, usage("--out", dir, "cannot be made: "+reason(err), "give the run folder by --out")
		}
		return dir, func() {
			abandon(dir)
			os.Remove(parent) //nolint:errcheck // stays unless empty
		}, nil
	}
}

// lastNumber is the highest N of the entries NAME-N, 0 if there is none.
func lastNumber(parent, name string) (int, error) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), name+"-")
		if n, err := strconv.Atoi(digits); ok && err == nil {
			last = max(last, n)
		}
	}
	return last, nil
}

// abandon removes a folder that claim has made, unless a run has begun in it.
func abandon(dir string) {
	if !holdsRun(dir) {
		os.RemoveAll(dir) //nolint:errcheck // what cannot be removed is empty of meaning
	}
}

// holdsRun reports whether a run has begun in a folder.
func holdsRun(dir string) bool {
	for _, name := range []string{runFileName, "tape", "checkpoints"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// reason is what the system said, without the path that the message names already.
func reason(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

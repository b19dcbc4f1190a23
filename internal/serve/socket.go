package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/mistura-project/mistura/internal/runfile"
)

// islandArgs is the program that starts an island of the run, and its arguments, and what
// its user is to do; empty: nothing.
func islandArgs(o Options, run runfile.Run, runID, name string) (args []string, note string) {
	at := slices.IndexFunc(run.Islands, func(i runfile.Island) bool { return i.Name == name })
	switch {
	case at >= 0 && run.Islands[at].Engine == runfile.Torch:
		return append(slices.Clone(o.StartIsland), torchArgs(o.Dir, run, run.Islands[at])...), ""
	case at < 0 || run.Islands[at].Engine != runfile.External:
		return o.StartIsland, ""
	}
	socket := socketOf(o.Dir, runID, name)
	note = fmt.Sprintf("island %s waits for its trainer: start it with MISTURA_SOCKET=%s", name, socket)
	return append(slices.Clone(o.StartIsland), "--engine", runfile.External, "--socket", socket), note
}

// maxSocket is the longest path of a socket that all systems take.
const maxSocket = 103

// socketOf is where an island waits for its trainer: in the run folder, unless the path
// is too long for a socket.
func socketOf(dir, runID, island string) string {
	dir, err := filepath.Abs(filepath.Join(dir, "islands"))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if path := filepath.Join(dir, island+".sock"); err == nil && len(path) <= maxSocket {
		return path
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("mistura-%s-%s.sock", runID, island))
}

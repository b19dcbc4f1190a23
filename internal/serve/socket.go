package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// islandArgs is the program that starts an island of the run, and its arguments.
func (h *host) islandArgs(name string) []string {
	at := slices.IndexFunc(h.run.Islands, func(i runfile.Island) bool { return i.Name == name })
	if at < 0 || h.run.Islands[at].Engine != runfile.External {
		return h.opts.StartIsland
	}
	socket := h.socket(name)
	h.emit(ledger.Note{At: time.Now(), Text: fmt.Sprintf("island %s waits for its trainer: start it with MISTURA_SOCKET=%s", name, socket)})
	return append(slices.Clone(h.opts.StartIsland), "--engine", runfile.External, "--socket", socket)
}

// maxSocket is the longest path of a socket that all systems take.
const maxSocket = 103

// socket is where an island waits for its trainer: in the run folder, unless the path
// is too long for a socket.
func (h *host) socket(island string) string {
	dir, err := filepath.Abs(filepath.Join(h.opts.Dir, "islands"))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if path := filepath.Join(dir, island+".sock"); err == nil && len(path) <= maxSocket {
		return path
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("mistura-%s-%s.sock", h.runID, island))
}

package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// socketFolder is the form of the folders that hold the socket of an island which was given none.
var socketFolder = regexp.MustCompile(`^mistura-\d+$`)

// sweepAge is how old such a folder is before nobody can be about to listen in it.
const sweepAge = time.Minute

// sweep removes the folders of islands that were killed, which could not do so themselves: those
// with nothing in them but a socket where nobody listens.
func sweep(dir string, now time.Time) {
	entries, _ := os.ReadDir(dir) //nolint:errcheck // nothing is swept then
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !socketFolder.MatchString(e.Name()) || info.Mode().Perm() != 0o700 || now.Sub(info.ModTime()) < sweepAge {
			continue
		}
		socket := filepath.Join(dir, e.Name(), socketName)
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			continue
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(socket) //nolint:errcheck // the folder then stays
		}
		os.Remove(filepath.Join(dir, e.Name())) //nolint:errcheck // one that holds anything else stays
	}
}

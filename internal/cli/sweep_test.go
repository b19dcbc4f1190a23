package cli

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What an island that was killed has left in the folder for temporary files goes when the next one
// starts; a socket that somebody listens at, one that is new, and what is none of ours stay.
func TestSweep(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	now := time.Now()
	listen := func(name string) *net.UnixListener {
		folder := filepath.Join(dir, name)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(folder, socketName)})
		if err != nil {
			t.Fatal(err)
		}
		lis.SetUnlinkOnClose(false)
		return lis
	}
	old := func(name string) {
		if err := os.Chtimes(filepath.Join(dir, name), now, now.Add(-2*sweepAge)); err != nil {
			t.Fatal(err)
		}
	}
	for _, killed := range []string{"mistura-1", "mistura-2", "mistura-mine", "mistura-4"} {
		listen(killed).Close()
	}
	defer listen("mistura-5").Close()
	if err := os.WriteFile(filepath.Join(dir, "mistura-4", "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mistura-1", "mistura-mine", "mistura-4", "mistura-5"} {
		old(name)
	}
	if err := os.Mkdir(filepath.Join(dir, "mistura-6"), 0o700); err != nil { // its socket had gone already
		t.Fatal(err)
	}
	old("mistura-6")
	sweep(dir, now)
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"mistura-2", "mistura-4", "mistura-5", "mistura-mine"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left %v, want %v (%v)", left, want, err)
	}
	sweep(filepath.Join(dir, "nothing"), now)
}

package serve

import (
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/transport"
)

// traffic is which incarnations have moved bytes of weights, tokens or states since the
// coordinator heard of it last.
type traffic struct {
	mu    sync.Mutex
	moved map[uint64]bool // value: some have come from it on its stream
}

// note is called for every MiB or so.
func (t *traffic) note(incarnation uint64, came bool) {
	if incarnation == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved == nil {
		t.moved = map[uint64]bool{}
	}
	t.moved[incarnation] = t.moved[incarnation] || came
}

// take gives what was noted since the last call.
func (t *traffic) take() (out []coord.Moved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, inc := range slices.Sorted(maps.Keys(t.moved)) {
		out = append(out, coord.Moved{Incarnation: inc, Came: t.moved[inc]})
	}
	clear(t.moved)
	return out
}

// watched is a file that tells when it is read.
type watched struct {
	transport.File
	read func()
}

func (w watched) ReadAt(p []byte, at int64) (int, error) {
	w.read()
	return w.File.ReadAt(p, at)
}

// watchedReader is a reader that does.
type watchedReader struct {
	io.Reader
	read func()
}

func (w watchedReader) Read(p []byte) (int, error) {
	w.read()
	return w.Reader.Read(p)
}

package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Rank is one process of the trainer.
type Rank struct {
	Hello *Hello
	Out   [][]float32 // by piece: what the rank gives; nil where it gives nothing
	In    [][]float32 // by piece: what it is given

	log    *slog.Logger // nil: nobody reads it
	conn   net.Conn
	unread time.Duration // how long what it is told may wait for it
	memory memory
	mapped chan struct{}
	once   sync.Once

	lending atomic.Bool   // it is asked for its weights, and has not said seeded
	seeded  chan struct{} // takes one

	mu   sync.Mutex // of writing
	deaf error      // that it did not read what it was told; its connection is closed then
}

// Send says something to the rank. One that does not read it within the crew's patience is
// lost: whoever tells it, and what that holds, must not wait for ever.
func (r *Rank) Send(m any) error {
	line, err := Encode(m)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf != nil {
		return r.deaf
	}
	r.conn.SetWriteDeadline(time.Now().Add(r.unread)) //nolint:errcheck // then it takes as long as it takes
	if _, err = r.conn.Write(line); errors.Is(err, os.ErrDeadlineExceeded) {
		r.deaf = fmt.Errorf("it has not read what it was told for %v", r.unread)
		r.conn.Close() // half a line is on its way: nothing can follow
		return r.deaf
	}
	return err
}

// tellTimeout bounds the wait for a rank to take the reason why it ends.
const tellTimeout = 5 * time.Second

// farewell is the last that the rank is told. What it has not read by then is cut off.
func (r *Rank) farewell(m any) {
	cut := time.AfterFunc(tellTimeout, func() { r.conn.Close() })
	defer cut.Stop()
	r.Send(m) //nolint:errcheck // it may be gone already
}

// why is the reason for an error of reading from the rank.
func (r *Rank) why(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf != nil {
		return r.deaf
	}
	return err
}

// alignBytes keeps pieces apart so that each begins on a cache line.
const alignBytes = 64

// Share makes the rank's shared memory for pieces of so many elements, of which it gives some.
func (r *Rank) Share(sizes []int, gives []bool, w *Welcome) error {
	var bytes int64
	place := func(n int) int64 {
		at := bytes
		bytes += (4*int64(n) + alignBytes - 1) / alignBytes * alignBytes
		return at
	}
	w.Out, w.In = make([]int64, len(sizes)), make([]int64, len(sizes))
	for i, n := range sizes {
		if w.Out[i] = -1; gives[i] {
			w.Out[i] = place(n)
		}
	}
	for i, n := range sizes {
		w.In[i] = place(n)
	}
	m, err := share(max(bytes, alignBytes))
	if err != nil {
		return err
	}
	r.tellSpilt(m)
	r.memory, w.Shm = m, Area{Path: m.path, Bytes: int64(len(m.bytes))}
	r.Out, r.In = make([][]float32, len(sizes)), make([][]float32, len(sizes))
	for i, n := range sizes {
		if w.Out[i] >= 0 {
			r.Out[i] = m.floats(w.Out[i], n)
		}
		r.In[i] = m.floats(w.In[i], n)
	}
	return nil
}

// tellSpilt: memory that is a file on a disk is as slow as that, and a container's /dev/shm is
// small unless told otherwise.
func (r *Rank) tellSpilt(m memory) {
	if m.spilt != nil && r.log != nil {
		r.log.Warn("shared_memory_on_disk", "rank", r.Hello.Rank, "size", sizeText(int64(len(m.bytes))), "folder", filepath.Dir(m.path),
			"instead_of", shmFolder, "err", m.spilt, "next", "give "+shmFolder+" more room (containers: --shm-size)")
	}
}

// Settled waits until the rank has mapped its memory, and takes the file's name away:
// nothing stays behind, however either process ends.
func (r *Rank) Settled(ctx context.Context) error {
	select {
	case <-r.mapped:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return r.memory.unlink()
}

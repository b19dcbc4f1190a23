package attach

import (
	"context"
	"net"
	"sync"
)

// Rank is one process of the trainer.
type Rank struct {
	Hello *Hello
	Out   [][]float32 // by piece: what the rank gives; nil where it gives nothing
	In    [][]float32 // by piece: what it is given

	conn   net.Conn
	memory memory
	mapped chan struct{}
	once   sync.Once
	seeded chan struct{} // takes one

	mu sync.Mutex // of writing
}

// Send says something to the rank.
func (r *Rank) Send(m any) error {
	line, err := Encode(m)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.conn.Write(line)
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

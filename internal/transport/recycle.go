package transport

import (
	"slices"
	"sync"
)

// recycler keeps payload buffers that were given back, so that a steady stream
// of fragments of like size needs no new memory. The oldest make way.
type recycler struct {
	limit int // bytes kept

	mu   sync.Mutex
	free [][]byte
	kept int // bytes of free
}

// put takes a buffer; the caller must not use it any more.
func (r *recycler) put(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cap(b) < ChunkBytes/4 || cap(b) > r.limit {
		return // not worth keeping, or too much
	}
	r.free = append(r.free, b[:0])
	r.kept += cap(b)
	for r.kept > r.limit {
		r.kept -= cap(r.free[0])
		r.free = slices.Delete(r.free, 0, 1)
	}
}

// get gives a buffer with room for n bytes and at most twice that, or nil.
func (r *recycler) get(n int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, b := range slices.Backward(r.free) {
		if cap(b) >= n && cap(b)/2 <= n {
			r.free = slices.Delete(r.free, i, i+1)
			r.kept -= cap(b)
			return b
		}
	}
	return nil
}

package transport

import (
	"slices"
	"sync"
)

// room is memory of payloads that nobody reads any more, for those to come. Memory made anew
// is given page by page as it is first touched, which costs as much as a digest of it.
type room struct {
	mu   sync.Mutex
	free [][]byte // shortest first
}

const (
	roomBuffers  = 4         // are kept at most
	roomMinBytes = 256 << 10 // what is shorter is cheap to make anew
)

// RoomBytes is the most that either side of a stream keeps for payloads to come, where the
// largest has so many bytes.
func RoomBytes(largest int64) int64 {
	if largest < roomMinBytes {
		return 0
	}
	return roomBuffers * largest
}

// give takes a payload's memory, which its owner must not touch again.
func (r *room) give(payload []byte) {
	if cap(payload) < roomMinBytes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at, _ := slices.BinarySearchFunc(r.free, cap(payload), func(b []byte, n int) int { return cap(b) - n })
	r.free = slices.Insert(r.free, at, payload[:0])
	if len(r.free) > roomBuffers {
		r.free = slices.Delete(r.free, 0, 1)
	}
}

// take is memory for a payload of n bytes, none of them there yet, or nil: it is to be made.
// What is more than twice as long is left for longer ones.
func (r *room) take(n int) []byte {
	if n < roomMinBytes {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at, _ := slices.BinarySearchFunc(r.free, n, func(b []byte, n int) int { return cap(b) - n })
	if at == len(r.free) || cap(r.free[at])/2 > n {
		return nil
	}
	b := r.free[at]
	r.free = slices.Delete(r.free, at, at+1)
	return b
}

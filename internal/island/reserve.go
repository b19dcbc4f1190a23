package island

import (
	"slices"
	"sync/atomic"
)

// reserve is memory that a learner takes once and uses again: what it needs at most is
// then known before it starts (memory.go), and the collector has little to do.
type reserve struct {
	fragment []float32    // of the largest fragment, for as long as one call
	copies   [3][]float32 // weights and moments, while a captured state is written
	taken    atomic.Bool  // copies are in use
}

// scratch is a vector of n elements that hold anything, valid until the next call.
func (r *reserve) scratch(n int) []float32 {
	r.fragment = reuse(r.fragment, n)
	return r.fragment
}

// copyAll copies vectors of one length. Release gives the memory back; until then
// another call gets memory of its own.
func (r *reserve) copyAll(vectors [3][]float32) (copies [3][]float32, release func()) {
	if !r.taken.CompareAndSwap(false, true) {
		for i, v := range vectors {
			copies[i] = slices.Clone(v)
		}
		return copies, func() {}
	}
	for i, v := range vectors {
		r.copies[i] = reuse(r.copies[i], len(v))
		copy(r.copies[i], v)
	}
	return r.copies, func() { r.taken.Store(false) }
}

// reuse is x with n elements, made anew when it is too short.
func reuse(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}

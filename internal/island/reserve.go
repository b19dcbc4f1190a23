package island

import "sync/atomic"

// reserve is memory that a learner takes once and uses again: what it needs at most is
// then known before it starts, and the collector has little to do.
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
	copies, release = r.room(len(vectors[0]))
	for i, v := range vectors {
		copy(copies[i], v)
	}
	return copies, release
}

// room is memory for copies of n elements each, that hold anything.
func (r *reserve) room(n int) (copies [3][]float32, release func()) {
	if !r.taken.CompareAndSwap(false, true) {
		for i := range copies {
			copies[i] = make([]float32, n)
		}
		return copies, func() {}
	}
	for i := range r.copies {
		r.copies[i] = reuse(r.copies[i], n)
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

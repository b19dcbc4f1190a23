package attachtest

import (
	"hash/fnv"
	"math"

	"github.com/mistura-project/mistura/internal/attach"
)

// each calls f for the elements of a piece, with what tells an element from all others of
// the model whatever the layout. Pieces are boxes in all dimensions of their tensor.
func each(p attach.Piece, f func(i int, key uint64)) {
	h := fnv.New64a()
	h.Write([]byte(p.Name))
	name := h.Sum64()
	index := make([]int, len(p.Extent))
	for i := 0; ; i++ {
		key := name
		for d, n := range index {
			key = key*1_000_003 + uint64(p.Offset[d]+n)
		}
		f(i, key)
		d := len(index) - 1
		for ; d >= 0; d-- {
			if index[d]++; index[d] < p.Extent[d] {
				break
			}
			index[d] = 0
		}
		if d < 0 {
			return
		}
	}
}

// target is where a sample pulls an element: from -1 to 1.
func target(key, sample uint64) float32 {
	x := (key ^ sample*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	return float32(int64(x>>40)-1<<23) / (1 << 23)
}

// Step trains a piece on a sample. Each operation is rounded.
func Step(p attach.Piece, w []float32, sample uint64, rate float64) {
	each(p, func(i int, key uint64) {
		d := float32(w[i] - target(key, sample))
		w[i] = float32(w[i] - float32(float32(rate)*d))
	})
}

// Gradient is that of half the square of a piece's distance from where sample 0 pulls it.
func Gradient(p attach.Piece, g, w []float32) {
	each(p, func(i int, key uint64) { g[i] = float32(w[i] - target(key, 0)) })
}

// Loss is what a piece adds to the loss: a multiple of 2^-20, so that any order of adding
// gives the same bits. It is not finite when a weight is not.
func Loss(p attach.Piece, w []float32, sample uint64) float64 {
	var sum float64
	each(p, func(i int, key uint64) {
		d := float64(w[i]) - float64(target(key, sample))
		if math.IsNaN(d) || math.IsInf(d, 0) {
			sum = math.NaN()
			return
		}
		sum += math.Floor(math.Abs(d) * (1 << 20))
	})
	return sum / (1 << 20)
}

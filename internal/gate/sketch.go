package gate

import (
	"math"

	"github.com/mistura-project/mistura/internal/rng"
)

// Projections is how many ±1 projections a sketch has: the bits of one byte.
const Projections = 8

// Sketch is what is kept of one tensor: its length and its projections on Projections
// vectors of signs. Those of parts of a tensor add up.
//
// The signs of element i are the bits of byte i of the stream (seed, GateSigns,
// tensor): bit j set is -1 in vector j. They depend on nothing else (D1).
type Sketch struct {
	Squares float64              // sum of squares
	Along   [Projections]float64 // by vector of signs
}

// Norm is the tensor's length.
func (s Sketch) Norm() float64 { return math.Sqrt(s.Squares) }

// Plus is the sketch of two parts together.
func (s Sketch) Plus(o Sketch) Sketch {
	s.Squares += o.Squares
	for j := range s.Along {
		s.Along[j] += o.Along[j]
	}
	return s
}

// Finite says whether every number of it is.
func (s Sketch) Finite() bool {
	sum := s.Squares
	for _, p := range s.Along {
		sum += p
	}
	return sum-sum == 0
}

// Project makes the sketch of consecutive elements x of a tensor, the first of them
// element from of the tensor in row-major order.
//
// Elements with the same byte of signs have the same part in every projection. They are
// summed byte by byte, one addition an element, and the 256 sums are projected.
func Project(seed uint64, tensor int, from int64, x []float32) Sketch {
	var sums [256]float64
	var s Sketch
	signs := rng.New(seed, rng.GateSigns, uint64(tensor))
	signs.Skip(uint64(from) / 4)
	if at := int(from % 4); at > 0 && len(x) > 0 { // the word began before
		head := min(4-at, len(x))
		s.Squares += bucket(&sums, signs.Uint32()>>(8*at), x[:head])
		x = x[head:]
	}
	for len(x) >= 4 {
		w, v := signs.Uint32(), x[:4:4]
		a, b, c, d := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
		sums[byte(w)] += a
		sums[byte(w>>8)] += b
		sums[byte(w>>16)] += c
		sums[byte(w>>24)] += d
		s.Squares += float64(a*a) + float64(b*b) + float64(c*c) + float64(d*d)
		x = x[4:]
	}
	if len(x) > 0 {
		s.Squares += bucket(&sums, signs.Uint32(), x)
	}
	for b, sum := range sums {
		for j := range s.Along {
			if b>>j&1 == 1 {
				s.Along[j] -= sum
			} else {
				s.Along[j] += sum
			}
		}
	}
	return s
}

// bucket adds at most four elements whose signs are the bytes of w, the lowest first,
// and gives the sum of their squares.
func bucket(sums *[256]float64, w uint32, x []float32) (squares float64) {
	for i, v := range x {
		a := float64(v)
		sums[byte(w>>(8*i))] += a
		squares += float64(a * a)
	}
	return squares
}

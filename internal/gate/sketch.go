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
func Project(seed uint64, tensor int, from int64, x []float32) Sketch {
	var k Sketcher
	k.Add(seed, tensor, from, x)
	return k.Sketch()
}

// Sketcher makes the sketch of a tensor run by run. The zero one has seen nothing.
//
// Elements with the same byte of signs have the same part in every projection. They are
// summed byte by byte, one addition an element, and the 256 sums are projected.
type Sketcher struct {
	sums    [256]float64
	squares float64
}

// Add takes consecutive elements, as Project does.
func (k *Sketcher) Add(seed uint64, tensor int, from int64, x []float32) {
	signs := rng.New(seed, rng.GateSigns, uint64(tensor))
	signs.Skip(uint64(from) / 4)
	if at := int(from % 4); at > 0 && len(x) > 0 { // the word began before
		head := min(4-at, len(x))
		k.bucket(signs.Uint32()>>(8*at), x[:head])
		x = x[head:]
	}
	sums, squares := &k.sums, k.squares
	for len(x) >= 4 {
		w, v := signs.Uint32(), x[:4:4]
		a, b, c, d := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
		sums[byte(w)] += a
		sums[byte(w>>8)] += b
		sums[byte(w>>16)] += c
		sums[byte(w>>24)] += d
		squares += float64(a*a) + float64(b*b) + float64(c*c) + float64(d*d)
		x = x[4:]
	}
	k.squares = squares
	if len(x) > 0 {
		k.bucket(signs.Uint32(), x)
	}
}

// Sketch is that of all elements so far.
func (k *Sketcher) Sketch() Sketch {
	s := Sketch{Squares: k.squares}
	for b, sum := range k.sums {
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

// bucket adds at most four elements whose signs are the bytes of w, the lowest first.
func (k *Sketcher) bucket(w uint32, x []float32) {
	for i, v := range x {
		a := float64(v)
		k.sums[byte(w>>(8*i))] += a
		k.squares += float64(a * a)
	}
}

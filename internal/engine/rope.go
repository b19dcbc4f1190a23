package engine

import (
	"math"

	"github.com/mistura-project/mistura/internal/model"
)

// rope holds the rotary positions (arXiv 2104.09864) of a sequence. Of the R leading
// elements of a head element i turns with element i + R/2 by position·theta^(-2i/R);
// the others stay. Queries are scaled by 1/√d on the way, which saves scaling the
// scores.
type rope struct {
	query, key []float32 // [T, 2, R/2]: cosines above sines, the query's times 1/√d
	half       int       // R/2
	dim        int       // d
	scale      float32   // 1/√d
	heads      int       // query heads
	turned     int       // query and key heads
}

func newRope(cfg model.Config, seq int) rope {
	turned := cfg.Turned()
	half, scale := turned/2, 1/math.Sqrt(float64(cfg.HeadDim))
	r := rope{
		query: floats(seq * turned), key: floats(seq * turned),
		half: half, dim: cfg.HeadDim, scale: float32(scale), heads: cfg.Heads, turned: cfg.Heads + cfg.KVHeads,
	}
	for t := range seq {
		for i := range half {
			angle := float64(t) * math.Pow(cfg.RopeTheta, -float64(2*i)/float64(turned))
			c, s, at := math.Cos(angle), math.Sin(angle), t*turned+i
			r.query[at], r.query[at+half] = float32(c*scale), float32(s*scale)
			r.key[at], r.key[at+half] = float32(c), float32(s)
		}
	}
	return r
}

// table gives cosines and sines for head h at a position.
func (r *rope) table(h, position int) (cos, sin []float32) {
	t := r.key
	if h < r.heads {
		t = r.query
	}
	t = t[2*r.half*position : 2*r.half*(position+1)]
	return t[:r.half], t[r.half:]
}

// still scales the elements of head h that do not turn.
func (r *rope) still(h int, x []float32) {
	if h >= r.heads {
		return
	}
	for i := range x {
		x[i] *= r.scale
	}
}

// turn rotates the queries and keys at the front of one token's qkv in place.
func (r *rope) turn(qkv []float32, position int) {
	for h := range r.turned {
		cos, sin := r.table(h, position)
		x := qkv[r.dim*h : r.dim*(h+1)]
		r.still(h, x[2*r.half:])
		a, b := x[:r.half], x[r.half:][:r.half]
		cos, sin = cos[:len(a)], sin[:len(a)]
		for i, p := range a {
			q := b[i]
			a[i] = float32(p*cos[i]) - float32(q*sin[i])
			b[i] = float32(q*cos[i]) + float32(p*sin[i])
		}
	}
}

// turnBack is the transpose of turn: it takes the gradient of turn's output to
// that of its input, in place.
func (r *rope) turnBack(qkv []float32, position int) {
	for h := range r.turned {
		cos, sin := r.table(h, position)
		x := qkv[r.dim*h : r.dim*(h+1)]
		r.still(h, x[2*r.half:])
		a, b := x[:r.half], x[r.half:][:r.half]
		cos, sin = cos[:len(a)], sin[:len(a)]
		for i, p := range a {
			q := b[i]
			a[i] = float32(p*cos[i]) + float32(q*sin[i])
			b[i] = float32(q*cos[i]) - float32(p*sin[i])
		}
	}
}

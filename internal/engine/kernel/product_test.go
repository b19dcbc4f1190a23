package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// fused is x*y+z rounded once to float32: the product is exact in float64, and the
// sum is rounded to odd there, so that the last rounding sees whether it was exact.
func fused(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	if math.IsNaN(s) || math.IsInf(s, 0) {
		return float32(s)
	}
	v := s - p
	err := (p - (s - v)) + (c - v)
	if err != 0 && math.Float64bits(s)&1 == 0 {
		toward := math.Inf(1)
		if err < 0 {
			toward = math.Inf(-1)
		}
		s = math.Nextafter(s, toward)
	}
	return float32(s)
}

// rounded is x*y+z with the product rounded to float32 first.
func rounded(x, y, z float32) float32 { return z + float32(x*y) }

// chain is how the named set adds a product to a sum.
func chain(name string) func(x, y, z float32) float32 {
	if name == "go" {
		return rounded
	}
	return fused
}

// naive is the twin of all three layouts: one chain per element.
func naive(l layout, add func(x, y, z float32) float32,
	c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	for i := range m {
		for j := range n {
			var sum float32
			if accumulate {
				sum = c[i*ldc+j]
			}
			for p := range k {
				x, y := l.at(i, j, p, lda, ldb)
				sum = add(a[x], b[y], sum)
			}
			c[i*ldc+j] = sum
		}
	}
}

// sets gives every set that can run here.
func sets(t testing.TB) []*kernel.Set {
	var all []*kernel.Set
	for _, name := range kernel.Available() {
		s, err := kernel.New(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// guard is the bit pattern of the words around a guarded slice: a NaN, so that a
// read outside shows in the result.
const guard = 0x7fc0dead

// guarded is a slice of n elements with guard words before and after it.
type guarded struct{ all, x []float32 }

func newGuarded(n int) guarded {
	const margin = 64
	all := make([]float32, n+2*margin)
	for i := range all {
		all[i] = math.Float32frombits(guard)
	}
	return guarded{all, all[margin : margin+n : margin+n]}
}

// intact reports whether the guard words are as they were.
func (g guarded) intact() bool {
	margin := (len(g.all) - len(g.x)) / 2
	for i, v := range g.all {
		if (i < margin || i >= margin+len(g.x)) && math.Float32bits(v) != guard {
			return false
		}
	}
	return true
}

// newMatrix is a guarded [rows, cols] matrix of normal numbers; the words between
// its rows are guard words.
func newMatrix(r *rand.Rand, rows, cols, ld int) guarded {
	g := newGuarded(extent(rows, cols, ld))
	for i := range rows {
		for j := range cols {
			g.x[i*ld+j] = float32(r.NormFloat64())
		}
	}
	return g
}

func extent(rows, cols, ld int) int {
	if rows == 0 || cols == 0 {
		return 0
	}
	return (rows-1)*ld + cols
}

func (g guarded) clone() guarded {
	c := newGuarded(len(g.x))
	copy(c.all, g.all)
	return c
}

// same compares bits, guard words included; any NaN equals any other.
func same(x, y guarded) bool {
	for i, v := range x.all {
		w := y.all[i]
		if math.Float32bits(v) != math.Float32bits(w) && !(v != v && w != w) {
			return false
		}
	}
	return true
}

// size draws sizes around the edges of tiles and blocks.
func size(most int) *rapid.Generator[int] {
	edges := []int{0, 1, 2, 3, 5, 7, 8, 13, 14, 15, 16, 17, 29, 31, 32, 33, 64, 67, 97}
	var usable []int
	for _, e := range edges {
		if e <= most {
			usable = append(usable, e)
		}
	}
	return rapid.OneOf(rapid.SampledFrom(usable), rapid.IntRange(0, most))
}

type productCase struct {
	m, n, k, lda, ldb, ldc int
	a, b, c                guarded
	accumulate             bool
}

func drawProduct(t *rapid.T, l layout) productCase {
	p := productCase{
		m: size(70).Draw(t, "m"), n: size(100).Draw(t, "n"), k: size(70).Draw(t, "k"),
		accumulate: rapid.Bool().Draw(t, "accumulate"),
	}
	pad := rapid.IntRange(0, 5)
	p.lda, p.ldb = l.leading(p.m, p.n, p.k)
	p.lda += pad.Draw(t, "pad_a")
	if rapid.Bool().Draw(t, "aliasing") {
		p.lda = 512 // a step that some sets avoid by a copy of A
	}
	p.ldb += pad.Draw(t, "pad_b")
	p.ldc = p.n + pad.Draw(t, "pad_c")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	p.fill(r, l)
	return p
}

func (p *productCase) fill(r *rand.Rand, l layout) {
	aRows, aCols, bRows, bCols := p.m, p.k, p.k, p.n
	switch l.name {
	case "NT":
		bRows, bCols = bCols, bRows
	case "TN":
		aRows, aCols = aCols, aRows
	}
	p.a = newMatrix(r, aRows, aCols, p.lda)
	p.b = newMatrix(r, bRows, bCols, p.ldb)
	p.c = newMatrix(r, p.m, p.n, p.ldc)
}

// The danger: a tile, an edge or a block boundary that sums in another order, or
// reads or writes outside. Bits must equal those of the naive chain.
func TestProductEqualsNaiveChain(t *testing.T) {
	for _, s := range sets(t) {
		for _, l := range layouts(s) {
			t.Run(s.Name()+"/"+l.name, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					p := drawProduct(t, l)
					want := p.c.clone()
					naive(l, chain(s.Name()), want.x, p.a.x, p.b.x, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.accumulate)
					l.run(p.c.x, p.a.x, p.b.x, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.accumulate)
					if !same(p.c, want) {
						t.Fatal("differs from the naive chain, or wrote outside C")
					}
				})
			})
		}
	}
}

// Sizes past every block boundary of every set: inner dimension, columns, rows.
func TestProductAcrossBlocks(t *testing.T) {
	for _, s := range sets(t) {
		for _, l := range layouts(s) {
			t.Run(s.Name()+"/"+l.name, func(t *testing.T) {
				for _, d := range [][3]int{{3, 5, 1061}, {5, 2083, 3}, {1031, 3, 5}, {263, 37, 521}, {199, 65, 263}} {
					p := productCase{m: d[0], n: d[1], k: d[2], ldc: d[1] + 1, accumulate: true}
					p.lda, p.ldb = l.leading(p.m, p.n, p.k)
					if p.n >= 64 {
						p.lda = (p.lda + 511) / 512 * 512
					}
					p.fill(rand.New(rand.NewPCG(7, 1)), l)
					want := p.c.clone()
					naive(l, chain(s.Name()), want.x, p.a.x, p.b.x, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, true)
					l.run(p.c.x, p.a.x, p.b.x, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, true)
					if !same(p.c, want) {
						t.Errorf("[%d, %d] over %d differs from the naive chain", p.m, p.n, p.k)
					}
				}
			})
		}
	}
}

// D2: the bits of an element do not depend on how callers split rows, columns or
// the inner dimension.
func TestProductSplitsGiveTheSameBits(t *testing.T) {
	for _, s := range sets(t) {
		for _, l := range layouts(s) {
			t.Run(s.Name()+"/"+l.name, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					p := drawProduct(t, l)
					whole := p.c.clone()
					l.run(whole.x, p.a.x, p.b.x, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.accumulate)
					i := rapid.IntRange(0, p.m).Draw(t, "row")
					j := rapid.IntRange(0, p.n).Draw(t, "col")
					q := rapid.IntRange(0, p.k).Draw(t, "inner")
					for _, rows := range [][2]int{{i, p.m}, {0, i}} {
						for _, cols := range [][2]int{{0, j}, {j, p.n}} {
							p.block(l, rows, cols, [2]int{0, q}, p.accumulate)
							p.block(l, rows, cols, [2]int{q, p.k}, true)
						}
					}
					if !same(p.c, whole) {
						t.Fatalf("split at row %d, column %d, inner %d differs", i, j, q)
					}
				})
			})
		}
	}
}

// block runs the part of the product that the three ranges name.
func (p *productCase) block(l layout, rows, cols, inner [2]int, accumulate bool) {
	m, n, k := rows[1]-rows[0], cols[1]-cols[0], inner[1]-inner[0]
	x, y := l.at(rows[0], cols[0], inner[0], p.lda, p.ldb)
	z := rows[0]*p.ldc + cols[0]
	tail := func(s []float32, from int) []float32 { return s[min(from, len(s)):] }
	l.run(tail(p.c.x, z), tail(p.a.x, x), tail(p.b.x, y), m, n, k, p.lda, p.ldb, p.ldc, accumulate)
}

// Zeros must not hide a NaN or an infinity.
func TestProductCarriesNonFinite(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, s := range sets(t) {
		for _, l := range layouts(s) {
			const m, n, k = 9, 37, 11
			lda, ldb := l.leading(m, n, k)
			for _, bad := range []float32{inf, -inf, float32(math.NaN())} {
				a, b, c := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
				x, y := l.at(4, 35, 6, lda, ldb)
				a[x] = bad
				l.run(c, a, b, m, n, k, lda, ldb, n, false)
				for i := range m {
					for j := range n {
						if isNaN := c[i*n+j] != c[i*n+j]; isNaN != (i == 4) {
							t.Fatalf("%s %s: A has %v in row 4, C[%d, %d] is %v", s.Name(), l.name, bad, i, j, c[i*n+j])
						}
					}
				}
				a[x], b[y] = 0, bad
				l.run(c, a, b, m, n, k, lda, ldb, n, false)
				for i := range m {
					for j := range n {
						if isNaN := c[i*n+j] != c[i*n+j]; isNaN != (j == 35) {
							t.Fatalf("%s %s: B has %v in column 35, C[%d, %d] is %v", s.Name(), l.name, bad, i, j, c[i*n+j])
						}
					}
				}
			}
		}
	}
}

func TestProductRefusesShortSlices(t *testing.T) {
	x := make([]float32, 100)
	for _, s := range sets(t) {
		for name, f := range map[string]func(){
			"a":        func() { s.NN(x, x[:11], x, 3, 4, 4, 4, 4, 4, false) },
			"b":        func() { s.NT(x, x, x[:15], 3, 4, 4, 4, 4, 4, false) },
			"c":        func() { s.TN(x[:11], x, x, 3, 4, 4, 3, 4, 4, false) },
			"ld":       func() { s.NN(x, x, x, 3, 4, 4, 3, 4, 4, false) },
			"negative": func() { s.NN(x, x, x, -1, 4, 4, 4, 4, 4, false) },
		} {
			t.Run(s.Name()+"/"+name, func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				f()
			})
		}
	}
}

// A step of training calls products thousands of times: they must not allocate.
func TestNoAllocations(t *testing.T) {
	const n = 67
	x, c := make([]float32, n*n), make([]float32, n*n)
	step := kernel.AdamWStep{Rate: 0.1, Eps: 1}
	for _, s := range sets(t) {
		allocs := testing.AllocsPerRun(20, func() {
			s.NN(c, x, x, n, n, n, n, n, n, false)
			s.NT(c, x, x, n, n, n, n, n, n, false)
			s.TN(c, x, x, n, n, n, n, n, n, false)
			s.AdamW(x, x, x, x, step)
			s.ExpSum(x, x, 1)
			s.SwiGLUGrad(x, x, x, x, x)
		})
		// The garbage collector may empty the pool of workspaces now and then.
		if allocs >= 1 {
			t.Errorf("%s: %v allocations a run", s.Name(), allocs)
		}
	}
}

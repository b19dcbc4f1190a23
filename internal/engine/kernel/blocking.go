package kernel

// Cache blocking follows Goto and van de Geijn, "Anatomy of high-performance
// matrix multiplication", ACM TOMS 34(3), 2008: a block of B is packed into
// panels as wide as a tile, and each panel stays in the first-level cache while
// rows of A stream past it.

// gemm is the product of one set: the geometry of its blocks and its inner
// routines. None of the numbers has a say in the bits of a result.
type gemm struct {
	tileCols   int // width of a packed panel of B
	depth      int // inner dimension of a block: one panel fills half of L1
	rows       int // rows of a block of A: it stays in L2
	cols       int // columns of a block of B; a multiple of tileCols
	directRows int // up to this many rows, packing B does not pay

	// packB writes the top left [k, n] of b to dst as panels [k][tileCols], the
	// last one filled up with zeros.
	packB func(dst []float32, b matrix, k, n int)
	// packA writes the top left [m, k] of a to dst as rows of k, where wantA says so.
	packA func(dst []float32, a matrix, m, k int)
	wantA func(a matrix, n int) bool
	// strip does one panel of B against a block of rows.
	strip func(t *strip)
}

// strip is C[rows, cols] (+)= A[rows, k]·B[k, cols] for at most one panel of columns.
type strip struct {
	c             []float32
	ldc           int
	a             matrix
	b             []float32 // element (p, j) is b[p*bRow+j]
	bRow          int
	rows, cols, k int
	fresh         bool      // start the chains from zero instead of C
	edge          []float32 // [rows][tileCols] to work in, for sets that need it
}

// workspace holds the packed blocks of one call.
type workspace struct {
	a, b  []float32
	strip strip
}

func newWorkspace(g *gemm) *workspace {
	return &workspace{strip: strip{edge: make([]float32, g.rows*g.tileCols)}}
}

// grow gives a slice of length n, in x when x is large enough.
func grow(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}

// roundUp is the smallest multiple of step that is at least n.
func roundUp(n, step int) int { return (n + step - 1) / step * step }

// multiply runs over blocks: columns, then the inner dimension in rising order,
// then rows.
func (s *Set) multiply(p problem) {
	if p.m == 0 || p.n == 0 {
		return
	}
	if p.k == 0 {
		if !p.accumulate {
			clearRows(p.c, p.m, p.n, p.ldc)
		}
		return
	}
	w := s.space.Get().(*workspace)
	defer s.space.Put(w)
	g := &s.gemm
	for j := 0; j < p.n; j += g.cols {
		cols := min(g.cols, p.n-j)
		for q := 0; q < p.k; q += g.depth {
			depth := min(g.depth, p.k-q)
			s.block(w, &p, j, cols, q, depth)
		}
	}
	w.strip = strip{edge: w.strip.edge} // keep no caller's memory alive
}

// block does columns j.. and inner indices q.. for all rows. Few rows are not worth
// the packing of B: then the whole panels of a row-major B are read where they lie.
func (s *Set) block(w *workspace, p *problem, j, cols, q, depth int) {
	g := &s.gemm
	b := p.b.from(q, j)
	direct := 0 // columns read where they lie
	if b.col == 1 && p.m <= g.directRows {
		direct = cols / g.tileCols * g.tileCols
	}
	if direct < cols {
		w.b = grow(w.b, depth*roundUp(cols-direct, g.tileCols))
		g.packB(w.b, b.from(0, direct), depth, cols-direct)
	}
	t := &w.strip
	t.ldc, t.k = p.ldc, depth
	t.fresh = q == 0 && !p.accumulate
	for i := 0; i < p.m; i += g.rows {
		t.rows = min(g.rows, p.m-i)
		t.a = p.a.from(i, q)
		if g.wantA(t.a, cols) {
			w.a = grow(w.a, depth*t.rows)
			g.packA(w.a, t.a, t.rows, depth)
			t.a = matrix{w.a, depth, 1}
		}
		for jj := 0; jj < cols; jj += g.tileCols {
			t.cols = min(g.tileCols, cols-jj)
			if jj < direct {
				t.b, t.bRow = b.data[jj:], b.row
			} else {
				t.b, t.bRow = w.b[(jj-direct)*depth:], g.tileCols
			}
			t.c = p.c[i*p.ldc+j+jj:]
			g.strip(t)
		}
	}
}

func clearRows(c []float32, m, n, ldc int) {
	for i := range m {
		clear(c[i*ldc : i*ldc+n])
	}
}

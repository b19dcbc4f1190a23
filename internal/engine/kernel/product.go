package kernel

import "fmt"

// Shape letters: C is [m, n], the inner dimension is k; all matrices are
// row-major with leading dimensions (elements from one row to the next) lda, ldb, ldc.

// NN computes C = A·B, or C += A·B when accumulate is set, for A [m, k] and
// B [k, n]. C must not overlap A or B. A slice too short for its shape panics.
func (s *Set) NN(c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	check("A", a, m, k, lda)
	check("B", b, k, n, ldb)
	check("C", c, m, n, ldc)
	s.multiply(problem{
		c: c, ldc: ldc, m: m, n: n, k: k, accumulate: accumulate,
		a: matrix{a, lda, 1}, b: matrix{b, ldb, 1},
	})
}

// NT is NN for B stored transposed, [n, k].
func (s *Set) NT(c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	check("A", a, m, k, lda)
	check("B", b, n, k, ldb)
	check("C", c, m, n, ldc)
	s.multiply(problem{
		c: c, ldc: ldc, m: m, n: n, k: k, accumulate: accumulate,
		a: matrix{a, lda, 1}, b: matrix{b, 1, ldb},
	})
}

// TN is NN for A stored transposed, [k, m].
func (s *Set) TN(c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	check("A", a, k, m, lda)
	check("B", b, k, n, ldb)
	check("C", c, m, n, ldc)
	s.multiply(problem{
		c: c, ldc: ldc, m: m, n: n, k: k, accumulate: accumulate,
		a: matrix{a, 1, lda}, b: matrix{b, ldb, 1},
	})
}

// check panics unless x holds a [rows, cols] matrix with leading dimension ld.
// The assembly relies on it to stay inside the slices.
func check(name string, x []float32, rows, cols, ld int) {
	if rows < 0 || cols < 0 || ld < cols {
		panic(fmt.Sprintf("kernel: %s is [%d, %d] with leading dimension %d", name, rows, cols, ld))
	}
	if rows > 0 && cols > 0 && len(x) < (rows-1)*ld+cols {
		panic(fmt.Sprintf("kernel: %s is [%d, %d] with leading dimension %d but has %d elements",
			name, rows, cols, ld, len(x)))
	}
}

// matrix is a view: element (i, j) is data[i*row+j*col]. One of the steps is 1.
type matrix struct {
	data     []float32
	row, col int
}

// from is the view that begins at element (i, j), which must exist.
func (x matrix) from(i, j int) matrix {
	return matrix{x.data[i*x.row+j*x.col:], x.row, x.col}
}

// problem is one product, in any layout.
type problem struct {
	c          []float32
	ldc        int
	m, n, k    int
	a, b       matrix // [m, k] and [k, n] as seen through their steps
	accumulate bool
}

package engine

import "github.com/mistura-project/mistura/internal/engine/kernel"

// Products shares single matrix products out to workers, as measurements of what a
// machine's threads can do together need it. A training step has no use for it:
// there a product is one item of a phase. Its methods must not be called concurrently.
type Products struct {
	kernel *kernel.Set
	pool   *pool
	task   func(w *worker, item int)

	c, a, b []float32
	m, n, k int
}

// NewProducts gives workers for the set. The caller must Close it.
func NewProducts(set *kernel.Set, threads int) *Products {
	p := &Products{kernel: set, pool: newPool(threads)}
	p.task = p.part
	return p
}

// Close ends the workers.
func (p *Products) Close() { p.pool.close() }

// NN is C = A·B of contiguous matrices, C [m, n], A [m, k], B [k, n]. Every thread does
// as many rows of C.
func (p *Products) NN(c, a, b []float32, m, n, k int) {
	p.c, p.a, p.b, p.m, p.n, p.k = c, a, b, m, n, k
	p.pool.run(len(p.pool.workers), p.task)
}

func (p *Products) part(_ *worker, item int) {
	rows := blocksOf(p.m, len(p.pool.workers))
	from, to := block(item, rows, p.m)
	if from < to {
		p.kernel.NN(p.c[from*p.n:], p.a[from*p.k:], p.b, to-from, p.n, p.k, p.k, p.n, p.n, false)
	}
}

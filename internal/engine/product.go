package engine

import "github.com/mistura-project/mistura/internal/engine/kernel"

// Products shares matrix products out to workers, as measurements of what a
// machine's threads can do together need it. A training step has no use for it:
// there a product is one item of a phase. Its methods must not be called concurrently.
//
// Matrices are contiguous. Those of several groups, an expert each, lie one behind the
// other.
type Products struct {
	kernel *kernel.Set
	pool   *pool
	task   func(w *worker, item int)

	product     // of the first group
	parts   int // of a group
}

// NewProducts gives workers for the set. The caller must Close it.
func NewProducts(set *kernel.Set, threads int) *Products {
	p := &Products{kernel: set, pool: newPool(threads)}
	p.task = p.part
	return p
}

// Close ends the workers.
func (p *Products) Close() { p.pool.close() }

// NN is C = A·B, C [m, n], A [m, k], B [k, n].
func (p *Products) NN(c, a, b []float32, m, n, k int) {
	p.run(product{layout: nn, c: c, a: a, b: b, m: m, n: n, k: k, lda: k, ldb: n, ldc: n}, 1)
}

// Linear is Y = X·Wᵀ in each group, a linear map going forward: Y [groups, m, n],
// X [groups, m, k], W [groups, n, k].
func (p *Products) Linear(y, x, w []float32, groups, m, n, k int) {
	p.run(product{layout: nt, c: y, a: x, b: w, m: m, n: n, k: k, lda: k, ldb: k, ldc: n}, groups)
}

// LinearGrad is dW = dYᵀ·X in each group, the gradient of Linear's weights:
// dW [groups, n, k], dY [groups, m, n], X [groups, m, k].
func (p *Products) LinearGrad(dW, dY, x []float32, groups, m, n, k int) {
	p.run(product{layout: tn, c: dW, a: dY, b: x, m: n, n: k, k: m, lda: n, ldb: k, ldc: k}, groups)
}

// run shares the products of all groups out. Every thread does as many rows of C, unless
// there are groups for all.
func (p *Products) run(x product, groups int) {
	p.product, p.parts = x, 1
	if threads := len(p.pool.workers); groups < 2*threads {
		p.parts = threads
	}
	p.pool.run(groups*p.parts, p.task)
}

func (p *Products) part(_ *worker, item int) {
	x, group := p.product, item/p.parts
	from, to := block(item%p.parts, blocksOf(x.m, p.parts), x.m)
	if from >= to {
		return
	}
	step := x.k // from one row of C to the next, in A
	if x.layout == tn {
		step = 1
	}
	x.c = x.c[group*x.m*x.n+from*x.ldc:]
	x.a = x.a[group*x.m*x.k+from*step:]
	x.b = x.b[group*x.n*x.k:]
	x.m = to - from
	multiply(p.kernel, &x)
}

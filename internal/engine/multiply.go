package engine

import (
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/model"
)

// call says what a matrix product is in the model, which decides how it is
// computed under a numeric profile.
type call struct {
	op     numeric.Operator
	a, b   numeric.Role
	keep   bool // the result is not rounded
	linear int  // number of the linear map, for scales per tensor; noLinear: none
}

const noLinear = -1

// linear is one matrix of the model at work.
type linear struct {
	op     numeric.Operator
	number int // by which its input, weight and gradient are known
}

func (x linear) forward() call {
	return call{op: x.op, a: numeric.Activation, b: numeric.Weight, linear: x.number}
}

func (x linear) inputGrad() call {
	return call{op: x.op, a: numeric.Gradient, b: numeric.Weight, linear: x.number}
}

func (x linear) weightGrad() call {
	return call{op: x.op, a: numeric.Gradient, b: numeric.Activation, keep: true, linear: x.number}
}

// The linear maps of a layer are numbered in this order.
const (
	qkvLinear = iota
	oLinear
	wideUpLinear
	wideDownLinear
	routerLinear
	expertLinear // and one for each expert's gate and up, one for its down
)

// layerLinears is the number of them.
func layerLinears(cfg *model.Config) int { return expertLinear + 2*cfg.Experts }

// linear is one of the layer's matrices.
func (l *layer) linear(which int) linear {
	return linear{linearOp(which), l.index*layerLinears(&l.cfg) + which}
}

// linearOp is the kind of a layer's linear map.
func linearOp(which int) numeric.Operator {
	switch which {
	case qkvLinear, oLinear:
		return numeric.Projection
	case routerLinear:
		return numeric.Router
	}
	return numeric.Expert
}

// expertUp and expertDown are the matrices of a routed expert.
func (l *layer) expertUp(expert int) linear   { return l.linear(expertLinear + 2*expert) }
func (l *layer) expertDown(expert int) linear { return l.linear(expertLinear + 2*expert + 1) }

// headLinear is the head.
func (e *Engine) headLinear() linear {
	return linear{numeric.Head, e.cfg.Layers * layerLinears(&e.cfg)}
}

// The products of attention: scores and their gradients stay in fp32, and so do the
// gradients of queries, keys and values until they are whole (roundHeads).
var (
	scoresCall  = call{op: numeric.Attention, a: numeric.Activation, b: numeric.Activation, keep: true, linear: noLinear}
	valuesCall  = call{op: numeric.Attention, a: numeric.Activation, b: numeric.Activation, linear: noLinear}
	dScoresCall = call{op: numeric.Attention, a: numeric.Gradient, b: numeric.Activation, keep: true, linear: noLinear}
	dKeyCall    = dScoresCall // and the gradient of the queries
	dValueCall  = call{op: numeric.Attention, a: numeric.Activation, b: numeric.Gradient, keep: true, linear: noLinear}
)

// product is the arguments of a kernel's product.
type product struct {
	layout        layout
	c, a, b       []float32
	m, n, k       int
	lda, ldb, ldc int
	accumulate    bool
}

// layout says which operands are stored transposed, as the kernels are named.
type layout uint8

const (
	nn layout = iota
	nt
	tn
)

// nn, nt and tn are the kernels' products as the profile has them.
func (e *Engine) nn(w *worker, t call, c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	if r := &e.rules[t.op]; r.on {
		e.rounded(w, r, t, &product{nn, c, a, b, m, n, k, lda, ldb, ldc, accumulate})
		return
	}
	e.kernel.NN(c, a, b, m, n, k, lda, ldb, ldc, accumulate)
}

func (e *Engine) nt(w *worker, t call, c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	if r := &e.rules[t.op]; r.on {
		e.rounded(w, r, t, &product{nt, c, a, b, m, n, k, lda, ldb, ldc, accumulate})
		return
	}
	e.kernel.NT(c, a, b, m, n, k, lda, ldb, ldc, accumulate)
}

func (e *Engine) tn(w *worker, t call, c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
	if r := &e.rules[t.op]; r.on {
		e.rounded(w, r, t, &product{tn, c, a, b, m, n, k, lda, ldb, ldc, accumulate})
		return
	}
	e.kernel.TN(c, a, b, m, n, k, lda, ldb, ldc, accumulate)
}

// multiply runs the kernel of a layout.
func multiply(set *kernel.Set, p *product) {
	switch p.layout {
	case nn:
		set.NN(p.c, p.a, p.b, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.accumulate)
	case nt:
		set.NT(p.c, p.a, p.b, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.accumulate)
	case tn:
		set.TN(p.c, p.a, p.b, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.accumulate)
	}
}

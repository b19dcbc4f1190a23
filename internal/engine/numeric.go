package engine

import (
	"math"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
)

// rule is a numeric.Rule made ready to be applied. The zero rule is fp32.
type rule struct {
	on      bool
	scaling numeric.Scaling
	sum     numeric.Accumulation
	formats [3]numeric.Format // by role
	in      [3]kernel.Rounding
	rounds  [3]bool // whether the role is rounded at all
	out     kernel.Rounding
	outs    bool
	// tops are the largest values of the operands' formats where what is beyond shows
	// nowhere, and of the output's behind them; +Inf: it shows, or is scaled.
	tops [4]float32
}

const outTop = 3 // index of the output in tops

func newRule(r numeric.Rule) rule {
	x := rule{on: !r.Plain(), scaling: r.Scaling, sum: r.Sum, outs: !r.Output.IsFP32()}
	for _, role := range []numeric.Role{numeric.Activation, numeric.Weight, numeric.Gradient} {
		x.formats[role] = r.Of(role)
		if x.rounds[role] = !r.Of(role).IsFP32(); x.rounds[role] {
			x.in[role] = kernel.NewRounding(r.Of(role))
		}
	}
	if x.outs {
		x.out = kernel.NewRounding(r.Output)
	}
	for i, f := range []numeric.Format{r.Input, r.Input, r.Grads, r.Output} {
		x.tops[i] = float32(math.Inf(1))
		if f.Saturate && r.Scaling == numeric.Unscaled {
			x.tops[i] = f.Max
		}
	}
	return x
}

// round is dst = x rounded, unscaled.
func (e *Engine) round(w *worker, dst, x []float32, r *kernel.Rounding, top float32) {
	if !math.IsInf(float64(top), 1) && e.kernel.MaxAbs(x) > top {
		w.saturated = true
	}
	e.kernel.Round(dst, x, r)
}

// emulate sets up the profile.
func (e *Engine) emulate(p *numeric.Profile) {
	e.lossFactor = 1
	if p.Plain() {
		return
	}
	e.profile = p
	for o, r := range p.Rules {
		e.rules[o] = newRule(r)
	}
	ops := make([]numeric.Operator, e.cfg.Layers*layerLinears(&e.cfg)+1)
	for i := range ops {
		ops[i] = linearOp(i % layerLinears(&e.cfg))
	}
	ops[len(ops)-1] = numeric.Head
	if e.delayed = newDelayed(p, ops); e.delayed == nil {
		return
	}
	for _, w := range e.pool.workers {
		w.amax = make(amaxes, e.delayed.tensors)
	}
}

// Numeric says what is emulated, "fp32" or "emulated" and the profile's name.
func (e *Engine) Numeric() string { return e.profile.String() }

// SetLossFactor makes Backward compute gradients of the losses times f, which must be a
// power of two so that dividing by it is exact: loss scaling. It is 1 at first.
func (e *Engine) SetLossFactor(f float32) { e.lossFactor = f }

// Overflowed says that since ZeroGrads a value was beyond the largest of a 16-bit format
// without infinity, and so does not show in the gradients. Chips that saturate have a
// status flag for it.
func (e *Engine) Overflowed() bool {
	for _, w := range e.pool.workers {
		if w.saturated {
			return true
		}
	}
	return false
}

// beginNumericStep takes what the step before has left.
func (e *Engine) beginNumericStep() {
	for _, w := range e.pool.workers {
		w.saturated = false
	}
	if e.delayed != nil {
		e.delayed.advance(e.pool.workers)
	}
}

// Products are cut into blocks whose rounded operands stay in the second-level
// cache. Cutting changes no bits: a chain goes on where the block before left
// it. The lengths are multiples of numeric.ScaleBlock and of every group of an
// accumulation.
const (
	roundRows  = 128
	roundCols  = 256
	roundDepth = 256
)

// roundScratch is a worker's memory for rounded operands.
type roundScratch struct {
	a, b             []float32 // blocks of A and B as they are stored
	turnedA, turnedB []float32 // the same with the inner dimension last
	c                []float32 // result before it is rounded and added
	column           []float32 // inverses and scales of blocks that stand upright
	scaleA           []float32 // [blocks of the inner dimension][rows]; for accumulation in groups
	scaleB           []float32
	left             numeric.Operand
	right            numeric.Operand
}

// rounded is a product under a rule: operands rounded, added up as the rule says, the
// result rounded.
func (e *Engine) rounded(w *worker, r *rule, t call, p *product) {
	if r.outs && !t.keep {
		e.roundedOut(w, r, t, p)
		return
	}
	if p.k == 0 {
		multiply(e.kernel, p)
		return
	}
	if r.sum.Kind != numeric.Plain && !p.accumulate {
		for i := range p.m {
			clear(p.c[i*p.ldc : i*p.ldc+p.n])
		}
		p.accumulate = true
	}
	s := &w.round
	for q := 0; q < p.k; q += roundDepth {
		depth := min(roundDepth, p.k-q)
		for j := 0; j < p.n; j += roundCols {
			cols := min(roundCols, p.n-j)
			b := e.loadB(w, r, t, p, q, depth, j, cols)
			for i := 0; i < p.m; i += roundRows {
				rows := min(roundRows, p.m-i)
				block := product{
					layout: p.layout, c: p.c[i*p.ldc+j:], a: e.loadA(w, r, t, p, q, depth, i, rows), b: b,
					m: rows, n: cols, k: depth, lda: depth, ldb: depth, ldc: p.ldc, accumulate: p.accumulate || q > 0,
				}
				if p.layout == tn {
					block.lda = rows
				}
				if p.layout != nt {
					block.ldb = cols
				}
				if r.sum.Kind == numeric.Plain {
					multiply(e.kernel, &block)
				} else {
					s.grouped(r, t, &block)
				}
			}
		}
	}
}

// roundedOut rounds the result, and adds it where the product accumulates.
func (e *Engine) roundedOut(w *worker, r *rule, t call, p *product) {
	t.keep = true
	if !p.accumulate {
		e.rounded(w, r, t, p)
		for i := range p.m {
			row := p.c[i*p.ldc : i*p.ldc+p.n]
			e.round(w, row, row, &r.out, r.tops[outTop])
		}
		return
	}
	result := *p
	result.c, result.ldc, result.accumulate = growFloats(&w.round.c, p.m*p.n), p.n, false
	e.rounded(w, r, t, &result)
	e.round(w, result.c, result.c, &r.out, r.tops[outTop])
	for i := range p.m {
		e.kernel.Add(p.c[i*p.ldc:i*p.ldc+p.n], result.c[i*p.n:(i+1)*p.n])
	}
}

// loadA rounds rows [i, i+rows) and inner indices [q, q+depth) of A into scratch.
func (e *Engine) loadA(w *worker, r *rule, t call, p *product, q, depth, i, rows int) []float32 {
	o := operand{role: t.a, linear: t.linear, scales: &w.round.scaleA}
	if p.layout == tn {
		o.src, o.ld, o.rows, o.cols, o.upright = p.a[q*p.lda+i:], p.lda, depth, rows, true
	} else {
		o.src, o.ld, o.rows, o.cols = p.a[i*p.lda+q:], p.lda, rows, depth
	}
	return e.loadOperand(w, r, &w.round.a, &o)
}

// loadB is loadA for columns [j, j+cols) of B.
func (e *Engine) loadB(w *worker, r *rule, t call, p *product, q, depth, j, cols int) []float32 {
	o := operand{role: t.b, linear: t.linear, scales: &w.round.scaleB}
	if p.layout == nt {
		o.src, o.ld, o.rows, o.cols = p.b[j*p.ldb+q:], p.ldb, cols, depth
	} else {
		o.src, o.ld, o.rows, o.cols, o.upright = p.b[q*p.ldb+j:], p.ldb, depth, cols, true
	}
	return e.loadOperand(w, r, &w.round.b, &o)
}

// grouped is C += A·B in the groups of the rule's accumulation.
func (s *roundScratch) grouped(r *rule, t call, p *product) {
	a, b := p.a, p.b
	if p.layout == tn {
		a = transpose(&s.turnedA, a, p.k, p.m)
	}
	var scaleA, scaleB []float32
	if r.scaling == numeric.PerBlock {
		scaleA, scaleB = s.scaleA, s.scaleB
	}
	s.left.Load(a, p.m, p.k, r.formats[t.a].MinExponent(), scaleA)
	if p.layout != nt {
		b = transpose(&s.turnedB, b, p.k, p.n)
	}
	s.right.Load(b, p.n, p.k, r.formats[t.b].MinExponent(), scaleB)
	r.sum.Multiply(p.c, p.ldc, &s.left, &s.right)
}

// transpose gives the transpose of x [rows, cols] in scratch.
func transpose(scratch *[]float32, x []float32, rows, cols int) []float32 {
	y := growFloats(scratch, rows*cols)
	for i := range rows {
		for j, v := range x[i*cols : (i+1)*cols] {
			y[j*rows+i] = v
		}
	}
	return y
}

// growFloats gives n elements of *x, which it makes longer as needed.
func growFloats(x *[]float32, n int) []float32 {
	if cap(*x) < n {
		*x = make([]float32, n)
	}
	*x = (*x)[:n]
	return *x
}

// roundHeads rounds the gradients of queries, keys and values of tokens [from, to) once
// they are whole, as a fused attention kernel does when it writes them.
func (l *layer) roundHeads(w *worker, from, to int) {
	if r := &l.rules[numeric.Attention]; r.outs {
		x := l.dQKV[from*l.qkvWidth() : to*l.qkvWidth()]
		l.round(w, x, x, &r.out, r.tops[outTop])
	}
}

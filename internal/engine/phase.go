package engine

// phase is what the pool is working on: a task of its own and the jobs that
// waited for it. Jobs keep workers busy that the task leaves idle.
type phase struct {
	task  func(w *worker, item int)
	items int
}

// job is one block of a weight gradient, added to grads. Its inputs must stay
// as they are until the next phase has run.
type job struct {
	kind    jobKind
	call    call
	c, a, b []float32 // gradient; gradient of the output; input
	m, n, k int
	part    Part
	lda     int // elements from one token of a to the next; for gains, of b as well
	ldb     int

	// For gains only.
	inv   []float32
	heads int // runs of n elements of one token that share the gain
	ldInv int // elements from one token of inv to the next
}

type jobKind uint8

const (
	productJob jobKind = iota // c [m, n] += aᵀ [m, k] · b [k, n]
	gainJob                   // c [n] += Σ_k Σ_heads a·b·inv
)

// do is one job, in rising order of tokens.
func (e *Engine) do(w *worker, j *job) {
	if j.kind == productJob {
		e.tn(w, j.call, j.c, j.a, j.b, j.m, j.n, j.k, j.lda, j.ldb, j.n, true)
		return
	}
	for t := range j.k {
		for h := range j.heads {
			at := t*j.lda + h*j.n
			e.kernel.AddMul(j.c, j.a[at:at+j.n], j.b[at:at+j.n], j.inv[t*j.ldInv+h])
		}
	}
}

// run works off the items of a task together with all waiting jobs.
func (e *Engine) run(items int, task func(w *worker, item int)) {
	e.phase = phase{task, items}
	e.pool.run(items+len(e.jobs), e.tasks.phase)
	e.jobs = e.jobs[:0]
}

func (e *Engine) phaseItem(w *worker, item int) {
	if item < e.phase.items {
		e.phase.task(w, item)
	} else {
		j := &e.jobs[item-e.phase.items]
		w.watch.turn(j.part)
		e.do(w, j)
	}
	w.watch.turn(Waiting)
}

// weightGrad queues the gradient of a matrix [out, in]: g += dYᵀ·X over rows
// tokens, dY [rows, out], X [rows, in].
func (e *Engine) weightGrad(matrix linear, g, dY, x []float32, rows, out, in int) {
	if rows == 0 {
		return
	}
	for i := range blocksOf(out, gradRows) {
		from, to := block(i, gradRows, out)
		e.jobs = append(e.jobs, job{
			kind: productJob, call: matrix.weightGrad(), c: g[from*in : to*in], a: dY[from:], b: x,
			m: to - from, n: in, k: rows, lda: out, ldb: in, part: e.queueing,
		})
	}
}

// gainGrad queues the gradient of an RMSNorm gain [D]: g += Σ dY·x·inv over the
// tokens of the pass.
func (e *Engine) gainGrad(g, dY, x, inv []float32) {
	dim := len(g)
	for i := range blocksOf(dim, gainColumns) {
		from, to := block(i, gainColumns, dim)
		e.jobs = append(e.jobs, job{
			kind: gainJob, c: g[from:to], a: dY[from:], b: x[from:],
			n: to - from, k: e.shape.tokens(), lda: dim,
			inv: inv, heads: 1, ldInv: 1, part: e.queueing,
		})
	}
}

// headGainGrad queues the gradient of the gain [d] that heads [first,
// first+heads) of each token's queries and keys share.
func (l *layer) headGainGrad(g []float32, first, heads int) {
	d := l.cfg.HeadDim
	l.jobs = append(l.jobs, job{
		kind: gainJob, c: g, a: l.dQKV[first*d:], b: l.acts.raw[first*d:], part: l.queueing,
		n: d, k: l.shape.tokens(), lda: l.qkvWidth(),
		inv: l.acts.headInv[first:], heads: heads, ldInv: l.cfg.Heads + l.cfg.KVHeads,
	})
}

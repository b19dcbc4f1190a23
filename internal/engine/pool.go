package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// pool runs the items of one phase at a time on a fixed number of workers, one
// of which is the calling goroutine. The others spin for a moment between
// phases, then sleep. Nothing is allocated per phase.
//
// A worker that wakes late does not delay anybody: it joins only while the
// phase is open, and the caller waits only for those who joined.
type pool struct {
	workers []*worker
	helpers sync.WaitGroup

	// state holds the phase number << 32, openBit while items may be left, and
	// the number of helpers inside.
	state atomic.Uint64
	next  atomic.Int64 // next item nobody has taken

	// Set by run before it opens a phase, read by helpers after they joined.
	task  func(w *worker, item int)
	items int
}

const (
	openBit    = 1 << 31
	phaseShift = 32
	insideMask = openBit - 1
	closeValue = ^uint64(0) // state after close

	// spins is how often a helper looks for a new phase before it sleeps: some
	// 20 µs, longer than the serial parts between the phases of a step.
	spins = 200
)

// worker is one member of the pool with its private memory.
type worker struct {
	scratch scratch
	round   roundScratch
	amax    amaxes // nil unless scales are per tensor
	// saturated: a value of this step was beyond a format that has no infinity for it.
	saturated bool
	watch     stopwatch
	asleep    atomic.Bool
	wake      chan struct{}
}

func newPool(threads int) *pool {
	p := &pool{workers: make([]*worker, threads)}
	for i := range p.workers {
		p.workers[i] = &worker{wake: make(chan struct{}, 1)}
	}
	for _, w := range p.workers[1:] {
		p.helpers.Go(func() { p.help(w) })
	}
	return p
}

// run calls task for every item in [0, items) and returns when all are done.
// Items are handed out in rising order; which worker gets one is not fixed. It
// must not be called by two goroutines at once or after close.
func (p *pool) run(items int, task func(w *worker, item int)) {
	if len(p.workers) == 1 || items <= 1 {
		for i := range items {
			task(p.workers[0], i)
		}
		return
	}
	p.task, p.items = task, items
	p.next.Store(0)
	phase := (p.state.Load()>>phaseShift + 1) << phaseShift
	p.state.Store(phase | openBit)
	p.wakeHelpers()
	p.work(p.workers[0])
	p.state.And(^uint64(openBit)) // nobody may join any more
	p.awaitHelpers()
	p.task = nil
}

// work takes items until none is left.
func (p *pool) work(w *worker) {
	for {
		i := int(p.next.Add(1)) - 1
		if i >= p.items {
			return
		}
		p.task(w, i)
	}
}

// awaitHelpers returns when no helper is inside.
func (p *pool) awaitHelpers() {
	w := p.workers[0]
	for {
		for range spins {
			if p.state.Load()&insideMask == 0 {
				return
			}
			runtime.Gosched()
		}
		w.asleep.Store(true)
		if p.state.Load()&insideMask == 0 && w.asleep.CompareAndSwap(true, false) {
			return
		}
		<-w.wake
	}
}

// help is the life of a worker other than the caller.
func (p *pool) help(w *worker) {
	last := uint64(0)
	for {
		s := p.await(w, last)
		if s == closeValue {
			return
		}
		last = s >> phaseShift
		if p.join(last) {
			p.work(w)
			p.leave()
		}
	}
}

// join enters the phase unless it is over.
func (p *pool) join(phase uint64) bool {
	for {
		s := p.state.Load()
		if s>>phaseShift != phase || s&openBit == 0 {
			return false
		}
		if p.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// leave ends what join began; the last one out wakes the caller.
func (p *pool) leave() {
	if p.state.Add(^uint64(0))&(openBit|insideMask) == 0 {
		p.workers[0].wakeUp()
	}
}

// await returns the state once its phase is another than last.
func (p *pool) await(w *worker, last uint64) uint64 {
	for {
		for range spins {
			if s := p.state.Load(); s>>phaseShift != last {
				return s
			}
			runtime.Gosched()
		}
		w.asleep.Store(true)
		if p.state.Load()>>phaseShift != last && w.asleep.CompareAndSwap(true, false) {
			continue
		}
		<-w.wake
	}
}

// wakeUp wakes the worker if it sleeps.
func (w *worker) wakeUp() {
	if w.asleep.CompareAndSwap(true, false) {
		w.wake <- struct{}{}
	}
}

// wakeHelpers wakes every helper that sleeps.
func (p *pool) wakeHelpers() {
	for _, w := range p.workers[1:] {
		w.wakeUp()
	}
}

// close ends the helpers and waits for them. Closing twice is allowed.
func (p *pool) close() {
	p.state.Store(closeValue)
	p.wakeHelpers()
	p.helpers.Wait()
}

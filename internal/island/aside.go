package island

import (
	"context"
	"sync"
)

// asides is work that would hold up a step boundary: where the trainer computes
// elsewhere it is done beside it, and what follows from it comes back to the runner's
// goroutine as an event. A native trainer's work is done in place.
type asides struct {
	life   context.Context // of the runner
	beside bool
	events chan func()
	wg     sync.WaitGroup
}

// maxEvents may wait for the runner before who posts one waits too.
const maxEvents = 64

func newAsides(life context.Context, beside bool) *asides {
	return &asides{life: life, beside: beside, events: make(chan func(), maxEvents)}
}

// post brings f to the runner's goroutine, unless the runner has ended.
func (a *asides) post(f func()) {
	select {
	case a.events <- f:
	case <-a.life.Done():
	}
}

// do works on a fragment and then does the rest on the runner's goroutine, which calls it.
func (a *asides) do(f *exchange, work, then func()) {
	if !a.beside {
		work()
		then()
		return
	}
	f.work.Add(1)
	a.wg.Go(func() {
		work()
		f.work.Done()
		a.post(then)
	})
}

// later works beside the runner's goroutine, and brings what follows from it there.
func (a *asides) later(work func() (then func())) {
	a.wg.Go(func() { a.post(work()) })
}

package serve

import "sync"

// queue runs functions one after the other in a goroutine of its own. push never
// blocks: a decision must not wait for the effects of an earlier one.
type queue struct {
	mu     sync.Mutex
	wake   *sync.Cond
	todo   []func()
	closed bool
	done   chan struct{}
}

func newQueue() *queue {
	q := &queue{done: make(chan struct{})}
	q.wake = sync.NewCond(&q.mu)
	go q.run()
	return q
}

func (q *queue) push(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.todo = append(q.todo, f)
		q.wake.Signal()
	}
}

func (q *queue) run() {
	defer close(q.done)
	for {
		q.mu.Lock()
		for len(q.todo) == 0 && !q.closed {
			q.wake.Wait()
		}
		if q.closed {
			q.mu.Unlock()
			return
		}
		f := q.todo[0]
		q.todo = q.todo[1:]
		q.mu.Unlock()
		f()
	}
}

// abandon gives up what is queued; it may be called by a queued function.
func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Signal()
}

// close ends the goroutine after the function it is in; what is queued is given up.
func (q *queue) close() {
	q.abandon()
	<-q.done
}

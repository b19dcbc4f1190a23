package transport

import (
	"fmt"
	"sync"
)

// outbox is a queue of messages bounded by bytes: put never blocks, take does.
type outbox struct {
	limit int64         // bytes; reached only by what is queued behind another message
	wake  chan struct{} // holds a token when take should look again

	mu     sync.Mutex
	items  []item
	bytes  int64 // queued or under way
	closed bool
}

func newOutbox(limit int64) *outbox {
	return &outbox{limit: limit, wake: make(chan struct{}, 1)}
}

// put queues a message. A message that alone exceeds the limit is taken when
// nothing else is there, so that a large payload can always be sent.
func (o *outbox) put(it item) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	if o.bytes > 0 && o.bytes+it.size > o.limit {
		return fmt.Errorf("%w: %d bytes wait, %d more would exceed %d", ErrQueueFull, o.bytes, it.size, o.limit)
	}
	o.items = append(o.items, it)
	o.bytes += it.size
	o.signal()
	return nil
}

// take waits for the next message; false: the queue is closed and drained, or stop is closed.
func (o *outbox) take(stop <-chan struct{}) (item, bool) {
	for {
		it, ok, closed := o.pop()
		if ok || closed {
			return it, ok
		}
		select {
		case <-o.wake:
		case <-stop:
			return item{}, false
		}
	}
}

// pop takes the first message if there is one.
func (o *outbox) pop() (it item, ok, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 {
		return item{}, false, o.closed
	}
	it = o.items[0]
	o.items[0] = item{} // let the payload go when it is sent
	o.items = o.items[1:]
	return it, true, false
}

// sent gives back the room of a message that take returned.
func (o *outbox) sent(it item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= it.size
}

// close refuses further messages; what is queued is still taken.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.signal()
}

// signal leaves a token for take; o.mu is held or the caller does not mind.
func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

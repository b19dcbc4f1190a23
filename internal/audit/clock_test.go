package audit_test

import (
	"container/heap"
	"time"
)

// clock is virtual time: events in order of time, those of one time in order of
// scheduling. One seed gives one history.
type clock struct {
	now    time.Duration
	events events
	n      uint64
}

type event struct {
	at time.Duration
	n  uint64
	do func()
}

func (c *clock) after(d time.Duration, do func()) {
	c.n++
	heap.Push(&c.events, event{c.now + d, c.n, do})
}

// next runs the next event, or says that there is none.
func (c *clock) next() bool {
	if len(c.events) == 0 {
		return false
	}
	e := heap.Pop(&c.events).(event)
	c.now = e.at
	e.do()
	return true
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

// pipe delivers in order, each item some time after it was put in. Cutting it
// loses what is on its way.
type pipe struct {
	clock *clock
	delay func() time.Duration
	free  time.Duration // when the last item arrives
	life  int
}

func (p *pipe) put(do func()) {
	p.free = max(p.free, p.clock.now+p.delay())
	life := p.life
	p.clock.after(p.free-p.clock.now, func() {
		if p.life == life {
			do()
		}
	})
}

func (p *pipe) cut() { p.life++ }

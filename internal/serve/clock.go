package serve

import "time"

// stallBeyond is a gap between two ticks that is no delay but a process that was
// stopped, or a terminal that blocked it.
const stallBeyond = 2 * time.Second

// clock is the machines' time: the time for which this process ran. Silence that was
// its own must not count against the islands. Clocks only start attempts, so that a
// late one is right enough.
type clock struct {
	ticked  time.Time     // last tick
	stalled time.Duration // how long this process did not run
}

// tick tells of a tick at a time of the outer clock, and gives the gap since the last one
// if it was a stall.
func (c *clock) tick(now time.Time) (stall time.Duration) {
	if gap := now.Sub(c.ticked); !c.ticked.IsZero() && gap > stallBeyond {
		stall = gap
		c.stalled += gap - tickEvery
	}
	c.ticked = now
	return stall
}

// at is the machines' time at a time of the outer clock.
func (c *clock) at(now time.Time) time.Time { return now.Add(-c.stalled) }

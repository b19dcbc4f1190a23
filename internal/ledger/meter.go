package ledger

import (
	"math"
	"time"
)

// window is the time over which the present speed is taken.
const window = 10 * time.Second

// meter measures a rate from readings of a counter.
type meter struct{ readings []reading }

type reading struct {
	at    time.Time
	count int64
}

func (m *meter) empty() bool { return len(m.readings) == 0 }

// add takes a reading and forgets those that lie before the window, but for one.
func (m *meter) add(at time.Time, count int64) {
	m.readings = append(m.readings, reading{at, count})
	drop := 0
	for drop+2 < len(m.readings) && at.Sub(m.readings[drop+1].at) >= window {
		drop++
	}
	m.readings = append(m.readings[:0], m.readings[drop:]...)
}

// rate is the count per second from the first reading to now, unknown before two
// readings. It falls towards zero when readings stop.
func (m *meter) rate(now time.Time) Value {
	if len(m.readings) < 2 {
		return Value{}
	}
	first, last := m.readings[0], m.readings[len(m.readings)-1]
	end := last.at
	if quiet := now.Sub(last.at); quiet > 2*last.at.Sub(first.at) {
		end = now
	}
	seconds := end.Sub(first.at).Seconds()
	if seconds <= 0 {
		return Value{}
	}
	return Known(float64(last.count-first.count) / seconds)
}

// smoothing is the number of steps that a mean looks back over.
const smoothing = 20

// mean follows a noisy series: the plain mean of the first values, then an
// exponential one. Non-finite values do not enter it.
type mean struct {
	n     int
	level float64
}

func (m *mean) add(x float64) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return
	}
	m.n++
	m.level += (x - m.level) / float64(min(m.n, smoothing))
}

// value is the mean, or the newest value when that is non-finite and so must show.
func (m *mean) value(newest float64) Value {
	if v := Known(newest); v.nonFinite() {
		return v
	}
	return Known(m.level)
}

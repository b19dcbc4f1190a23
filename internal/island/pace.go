package island

import (
	"slices"
	"time"
)

// paceWindow is how many steps the quick one is taken from.
const paceWindow = 32

// pacer slows an island down to a share of its speed: a test aid that makes
// islands unequal on one machine. A step is to take 1/pace of a quick one of the
// last steps (their first decile). Taking the step's own time instead would slow the
// island twice where islands share a core's hardware: it would rest longer because
// the others had slowed it already.
type pacer struct {
	pace float64
	last []time.Duration // of computing, newest last
}

// rest is how long the island rests after a step that computed for took.
func (p *pacer) rest(took time.Duration) time.Duration {
	if p.pace >= 1 {
		return 0
	}
	p.last = append(p.last, took)
	if len(p.last) > paceWindow {
		p.last = p.last[1:]
	}
	sorted := slices.Sorted(slices.Values(p.last))
	target := time.Duration(float64(sorted[len(sorted)/10]) / p.pace)
	return max(0, target-took)
}

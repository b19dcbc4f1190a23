package island

import (
	"testing"
	"time"
)

func TestPaceCountsFromTheQuickestOfTheLastSteps(t *testing.T) {
	p := &pacer{pace: 0.5}
	for i, c := range []struct{ took, rest time.Duration }{
		{100, 100}, // twice its own time
		{140, 60},  // slowed by others: together still 200
		{250, 0},   // slowed by more than the pace asks for
		{80, 80},   // quicker than ever: 160 from here on
		{100, 60},
	} {
		if got := p.rest(c.took * time.Millisecond); got != c.rest*time.Millisecond {
			t.Errorf("step %d of %v ms: rests %v, want %v ms", i, int(c.took), got, int(c.rest))
		}
	}
	for range paceWindow {
		p.rest(100 * time.Millisecond)
	}
	if got := p.rest(100 * time.Millisecond); got != 100*time.Millisecond {
		t.Errorf("a quick step long ago still counts: rests %v", got)
	}
}

func TestFullPaceNeverRests(t *testing.T) {
	p := &pacer{pace: 1}
	if got := p.rest(time.Second); got != 0 || len(p.last) != 0 {
		t.Errorf("rests %v, remembers %d steps", got, len(p.last))
	}
}

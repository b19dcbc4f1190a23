package serve

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/coord"
)

// Whatever gaps there are between ticks, the machines' time never runs backwards, and
// never further from one tick to the next than a gap that is no stall.
func TestClockLeavesOutStalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c clock
		now := time.Unix(1000, 0)
		c.tick(now)
		for range rapid.IntRange(1, 20).Draw(t, "ticks") {
			before := c.at(now)
			gap := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "gap"))
			if rapid.Bool().Draw(t, "short") {
				gap %= stallBeyond
			}
			now = now.Add(gap)
			stall, passed := c.tick(now), c.at(now).Sub(before)
			switch {
			case gap <= stallBeyond && (stall != 0 || passed != gap):
				t.Fatalf("a gap of %v is a stall of %v, and %v pass", gap, stall, passed)
			case gap > stallBeyond && (stall != gap || passed != tickEvery):
				t.Fatalf("a gap of %v is a stall of %v, and %v pass", gap, stall, passed)
			}
		}
	})
}

// Danger: the parent is stopped (SIGSTOP, a laptop's lid, a blocked terminal) for longer
// than an island may be silent, and when it goes on it takes every island for dead.
func TestStalledParentKillsNobody(t *testing.T) {
	cfg := coord.Config{
		Islands: []string{"a"}, TotalSamples: 100, StepSamples: 2, PeriodSamples: 20, Heartbeat: 10 * time.Second, Stall: 10 * time.Second, StallFactor: 10,
		FirstStep: time.Minute, Runway: time.Minute, Restarts: 5, CheckpointWait: time.Minute, StopWait: time.Minute,
	}
	for _, stall := range []time.Duration{time.Second, 30 * time.Second, time.Hour} {
		var c clock
		s, now := coord.New(cfg), time.Unix(1000, 0)
		step := func(in coord.Input) []coord.Effect {
			effects, _ := s.Step(in, c.at(now))
			return effects
		}
		c.tick(now)
		step(coord.Start{})
		step(coord.Joined{Incarnation: 1, Island: "a"})
		step(coord.Ready{Incarnation: 1})
		step(coord.Progress{Incarnation: 1, Step: 1, Position: 2, StepSeconds: 0.1})
		now = now.Add(stall)
		c.tick(now)
		if effects := step(coord.Tick{}); len(effects) > 0 {
			t.Errorf("after a stall of %v: %+v", stall, effects)
		}
		for range 45 { // and silence that is not its own counts from here
			now = now.Add(tickEvery)
			c.tick(now)
			if effects := step(coord.Tick{}); len(effects) > 0 {
				if _, expelled := effects[0].(coord.Expel); !expelled {
					t.Errorf("after a stall of %v: %+v", stall, effects)
				}
				stall = -1
				break
			}
		}
		if stall >= 0 {
			t.Errorf("after a stall of %v an island that stays silent lives on", stall)
		}
	}
}

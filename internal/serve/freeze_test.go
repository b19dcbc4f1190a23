package serve_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// missed is a run that is not through before an island that does nothing is missed: every merge
// waits for it. Who lives has long to say so.
func missed(run *runfile.Run) {
	waiting(run)
	run.Exchange.Quorum, run.Exchange.MaxWaitSeconds = 2, 1000
	run.Limits.HeartbeatSeconds = missedAfter
}

// missedAfter is how many seconds of silence, or of no step, are the death of an island.
const missedAfter = 8

// relieved holds both islands until both are ready, and the fast one from the death of the other
// until the next is ready: alone it would be through before.
func relieved() func(*trial, ledger.Event) {
	both := together(unix.SIGCONT, 1, 2)
	return func(c *trial, e ledger.Event) {
		both(c, e)
		switch e := e.(type) {
		case ledger.IslandGone:
			if e.Incarnation == 2 {
				c.signal("fast", 1, unix.SIGSTOP)
			}
		case ledger.IslandReady:
			if e.Incarnation == 3 {
				c.signal("fast", 1, unix.SIGCONT)
			}
		}
	}
}

// Danger: a process that slept through its own death wakes up and speaks for the
// incarnation that replaced it.
func TestAnIslandIsFrozenAndWakesUp(t *testing.T) {
	t.Parallel() // most of it is waiting
	relief := relieved()
	c := begin(t, folder(t), tiny(t, missed), false, func(c *trial, e ledger.Event) {
		relief(c, e)
		switch e := e.(type) {
		case ledger.StepDone:
			if e.Incarnation == 2 && e.Step == 20 {
				c.signal("slow", 2, unix.SIGSTOP)
			}
		case ledger.IslandReady:
			if e.Incarnation == 3 {
				c.signal("slow", 2, unix.SIGCONT)
			}
		}
	})
	sum := c.finish()
	within(t, "the end of the woken process", c.dead("slow", 2))
	gone := recorded[ledger.IslandGone](c)
	if gone[0].Incarnation != 2 || gone[0].Kind != ledger.Died || !strings.Contains(gone[0].Reason, "no sign of life") {
		t.Errorf("the frozen island: %v", gone[0])
	}
	if sum.Islands[1].Restarts != 1 || sum.Islands[0].Restarts != 0 {
		t.Errorf("restarts: %+v", sum.Islands)
	}
	log := read(t, filepath.Join(c.dir, "logs", "slow-2.log"))
	if !strings.Contains(log, "expelled") {
		t.Errorf("the woken process was not refused:\n%s", log)
	}
}

// Danger: a process that lives and does nothing is waited for.
func TestAnIslandHangs(t *testing.T) {
	t.Parallel() // most of it is waiting
	run := tiny(t, func(run *runfile.Run) {
		missed(run)
		run.Limits.StallSeconds, run.Limits.FirstStepSeconds = missedAfter, missedAfter
	})
	c := begin(t, folder(t), run, false, relieved(), faking("slow-2="+actHang))
	sum := c.finish()
	gone := recorded[ledger.IslandGone](c)
	if gone[0].Incarnation != 2 || !strings.Contains(gone[0].Reason, "no inner step for") {
		t.Errorf("the hanging island: %v", gone[0])
	}
	if sum.Islands[1].Restarts != 1 || sum.Islands[1].Steps == 0 {
		t.Errorf("it was not replaced: %+v", sum.Islands)
	}
}

// C10 (CASES: one worker leaves on a termination signal, and its exit closes the
// membership for all): here the leaver flushes, counts as left and is not started
// again; the other one finishes everything.
func TestC10AnIslandLeaves(t *testing.T) {
	t.Parallel()
	for island, incarnation := range map[string]uint64{"fast": 1, "slow": 2} {
		t.Run(island, func(t *testing.T) {
			t.Parallel()
			goOn := together(unix.SIGCONT, 1, 2)
			c := begin(t, folder(t), tiny(t, waiting), false, func(c *trial, e ledger.Event) {
				goOn(c, e)
				if s, ok := e.(ledger.StepDone); ok && s.Incarnation == incarnation && s.Step == 10 {
					c.signal(island, incarnation, unix.SIGTERM)
				}
			})
			c.finish()
			gone := recorded[ledger.IslandGone](c)
			if gone[0].Island != island || gone[0].Kind != ledger.Left {
				t.Errorf("the leaver: %v", gone[0])
			}
			for _, e := range recorded[ledger.IslandStarted](c) {
				if e.Restart {
					t.Errorf("%s was started again", e.Island)
				}
			}
			// What it had trained when it left is in the model: nothing was handed back
			// behind its last step.
			last := uint64(0)
			for _, s := range recorded[ledger.StepDone](c) {
				if s.Island == island {
					last = s.Position
				}
			}
			if at := closedAt(t, c.dir, incarnation); at != int64(last) {
				t.Errorf("closed at sample %d, it had trained %d", at, last)
			}
		})
	}
}

// C1 (CASES: X is killed, after the heartbeat limit Y and Z join, and X still
// counts): here the first processes of both islands are killed as soon as both are
// there; the second ones make up the whole run, and a merge waits for nobody else.
func TestC1TheDeadDoNotCount(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Exchange.Quorum = 2
		run.Exchange.MaxWaitSeconds = 1000
		waiting(run)
	})
	kill, goOn := together(unix.SIGKILL, 1, 2), together(unix.SIGCONT, 3, 4)
	c := begin(t, folder(t), run, false, func(c *trial, e ledger.Event) {
		kill(c, e)
		goOn(c, e)
	})
	sum := c.finish()
	if sum.Islands[0].Restarts != 1 || sum.Islands[1].Restarts != 1 {
		t.Errorf("restarts: %+v", sum.Islands)
	}
	both := 0
	for _, m := range recorded[ledger.Merged](c) {
		if len(m.Islands) == 2 {
			both++
		}
	}
	if both == 0 {
		t.Error("no merge of both islands")
	}
}

// untilGone holds the fast island, once it is ready, until the other one is gone: it could be
// through before.
func untilGone() func(*trial, ledger.Event) {
	held, gone := false, false
	return func(c *trial, e ledger.Event) {
		switch e := e.(type) {
		case ledger.IslandReady:
			if e.Incarnation == 1 && !gone {
				held = true
				c.signal("fast", 1, unix.SIGSTOP)
			}
		case ledger.IslandGone:
			if gone = gone || e.Incarnation == 2; gone && held {
				c.signal("fast", 1, unix.SIGCONT)
				held = false
			}
		}
	}
}

// A1: initial digests of all tensors are compared before an island's first step; one
// that differs is refused, with tensor and island named, and the other trains on.
func TestA1AnIslandBeginsWithOtherBits(t *testing.T) {
	t.Parallel()
	c := begin(t, folder(t), tiny(t, waiting), false, untilGone(), faking("slow-2="+actForge))
	c.finish()
	gone := recorded[ledger.IslandGone](c)
	if gone[0].Kind != ledger.Quarantined || !strings.Contains(gone[0].Reason, "of island slow is not what the syncer sent") {
		t.Errorf("the island with other bits: %v", gone[0])
	}
}

// Danger: what computes with the parameters of another run's model, and has not noticed it itself,
// takes part. It is refused by the digests of both before its first step.
func TestAnIslandOfAnotherRunsModel(t *testing.T) {
	t.Parallel()
	c := begin(t, folder(t), tiny(t, waiting), false, untilGone(), faking("slow-2="+actOther))
	c.finish()
	gone := recorded[ledger.IslandGone](c)
	other := regexp.MustCompile(`it trains another model: its parameters have the digest [0-9a-f]{12}…, those of the run [0-9a-f]{12}…`)
	if gone[0].Kind != ledger.Quarantined || gone[0].Incarnation != 2 || !other.MatchString(gone[0].Reason) {
		t.Errorf("the island of another model: %v", gone[0])
	}
}

// Danger: every island is lost and the parent waits for ever.
func TestAllIslandsLeave(t *testing.T) {
	t.Parallel()
	c := begin(t, folder(t), tiny(t, nil), false, func(c *trial, e ledger.Event) {
		if s, ok := e.(ledger.StepDone); ok && s.Step == 10 {
			c.signal(s.Island, s.Incarnation, unix.SIGTERM)
		}
	})
	sum, err := c.wait()
	if err == nil || sum.Outcome != ledger.RunFailed || !strings.Contains(sum.Reason, "no island is left") {
		t.Fatalf("%v, %+v", err, sum)
	}
	if sum.Checkpoint == nil {
		t.Error("what was trained is not saved")
	}
	audited(t, c.dir, sum.Tokens/32)
}

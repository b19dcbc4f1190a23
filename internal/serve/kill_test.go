package serve_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/rng"
	"github.com/mistura-project/mistura/internal/runfile"
)

// Danger: an island's process is killed at the worst moment and its samples are
// trained twice, or never.
func TestAnIslandIsKilled(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]struct {
		island      string
		incarnation uint64
		done        float64 // share of the run that is done then; 0: as soon as both are ready
	}{
		"the first, at its start":  {"fast", 1, 0},
		"the second, at its start": {"slow", 2, 0},
		"the first, early":         {"fast", 1, 0.01},
		"the first, in mid-run":    {"fast", 1, 0.5},
		"the second, in mid-run":   {"slow", 2, 0.5},
		"the first, near the end":  {"fast", 1, 0.95},
		"the second, near the end": {"slow", 2, 0.95},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killed, ready, run, goOn := false, 0, tiny(t, waiting), together(unix.SIGCONT, 1, 2)
			c := begin(t, folder(t), run, false, func(c *trial, e ledger.Event) {
				goOn(c, e)
				now := false
				switch e := e.(type) {
				case ledger.IslandReady:
					ready++
					now = kill.done == 0 && ready == 2
				case ledger.Consumed:
					now = kill.done > 0 && float64(e.Tokens) >= kill.done*float64(run.Tokens)
				}
				if now && !killed {
					killed = true
					c.signal(kill.island, kill.incarnation, unix.SIGKILL)
				}
			})
			sum := c.finish()
			if !killed {
				t.Fatal("nobody was killed")
			}
			gone := recorded[ledger.IslandGone](c)
			if len(gone) == 0 || gone[0].Island != kill.island || gone[0].Kind != ledger.Died {
				t.Errorf("the death is not told: %v", gone)
			}
			restarts := 0
			for _, i := range sum.Islands {
				restarts += i.Restarts
			}
			if restarts > 1 || (restarts == 0 && kill.done < 0.9) {
				t.Errorf("%d restarts", restarts)
			}
			for _, e := range recorded[ledger.IslandStarted](c) {
				if e.Restart && e.Incarnation != 3 {
					t.Errorf("started again as incarnation %d", e.Incarnation)
				}
			}
		})
	}
}

// Danger: what a dead island leaves behind, or what its successor begins with, spoils
// the model. The text is noise with a rule (each letter says which eight may follow),
// so that a model which has learned the rule is near ln 8 and no luck takes it further.
func TestAKilledIslandCostsLittle(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Data.Paths = []string{chain(t)}
		run.Tokens = stepTokens * 1600
		run.Train.PeakRate, run.Train.Beta2 = 2e-2, 0.95
		run.Train.DecayTokens = run.Tokens / 5 * 2
		run.Exchange.PeriodTokens = stepTokens * 32
		run.Eval.FinalSequences = 256
	})
	loss := func(kill uint64, island string) float64 {
		c := begin(t, folder(t), run, false, func(c *trial, e ledger.Event) {
			if s, ok := e.(ledger.StepDone); ok && s.Incarnation == kill && s.Step == 200 {
				c.signal(island, kill, unix.SIGKILL)
			}
		})
		loss, _ := c.finish().ValidLoss.Get()
		t.Logf("loss %.4f with %d restarts", loss, c.sum.Islands[0].Restarts+c.sum.Islands[1].Restarts)
		return loss
	}
	calm := loss(0, "")
	if calm > 2.25 {
		t.Errorf("undisturbed loss %.3f: the rule is not learned, so this test says nothing", calm)
	}
	for island, incarnation := range map[string]uint64{"fast": 1, "slow": 2} {
		if got := loss(incarnation, island); math.Abs(got/calm-1) > 0.02 {
			t.Errorf("%s killed: loss %.4f, undisturbed %.4f", island, got, calm)
		}
	}
}

// chain writes a text in which each of 16 letters is followed by one of eight.
func chain(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	draw := rng.New(1, rng.Test, 0)
	for f := range 20 {
		text := make([]byte, 10_000)
		at := uint32(0)
		for i := range text {
			at = (at*5 + draw.Uint32()%8) % 16
			text[i] = byte('a' + at)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d.txt", f)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

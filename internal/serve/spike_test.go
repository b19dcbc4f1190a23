package serve_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/spike"
)

// spoiling makes the gradient of every step with one of the samples from..to-1 NaN, on
// all islands.
func spoiling(from, to int) func(*serve.Options) {
	return faking(fmt.Sprintf("%s=%d-%d", everyone, from, to))
}

// finishWithout waits for an end with every sample in the model but these, and audits the tape.
func (c *trial) finishWithout(left ...ledger.Samples) ledger.Summary {
	c.t.Helper()
	sum, err := c.wait()
	if err != nil {
		c.t.Fatal(err)
	}
	var n int64
	for _, s := range left {
		n += s.To - s.From
	}
	if sum.Outcome != ledger.RunFinished || sum.Tokens != sum.GoalTokens-32*n || !slices.Equal(sum.SkippedSamples, left) {
		c.t.Fatalf("%s with %d of %d tokens and %v left out, want %v: %s", sum.Outcome, sum.Tokens, sum.GoalTokens, sum.SkippedSamples, left, sum.Reason)
	}
	report := audited(c.t, c.dir, sum.GoalTokens/32-n)
	if report.Skipped != n || report.Rollbacks != sum.Rollbacks {
		c.t.Errorf("the tape says %+v, the summary %+v", report, sum)
	}
	return sum
}

// spikes are the decisions of the spike rule on the tape of all eras.
func spikes(t testing.TB, dir string) (out []coord.SpikeRecord) {
	t.Helper()
	for _, era := range tapes(t, dir) {
		for _, raw := range era.Coordinator {
			var r coord.SpikeRecord
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			if r.Kind == "spike" {
				out = append(out, r)
			}
		}
	}
	return out
}

// jumpy is a rule under which ordinary losses spike now and then.
func jumpy(run *runfile.Run) {
	run.Spike = runfile.Spike{Window: 16, Factor: 0.4, FloorNats: 0, Limit: 0, LimitSteps: 1000, Rollbacks: 3}
}

// Steps that spike are withheld, tried again and applied at half the rate, and in the end
// every sample is in the model once. A lone island does the same each time, also when
// it is interrupted on the way: its state holds the window (exact resume).
func TestSpikesOfALoneRun(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) {
		run.Tokens = stepTokens * 300
		jumpy(run)
	})
	want, dir := straight(t, run)
	count := map[spike.Verdict]int{}
	for _, r := range spikes(t, dir) {
		count[r.Verdict]++
		if r.Loss == nil || r.Bound == nil || *r.Loss <= *r.Bound || *r.Bound < *r.Median || r.Retry != (r.Verdict != spike.Withhold) {
			t.Errorf("%+v", r)
		}
	}
	if count[spike.Withhold] < 3 || count[spike.HalfRate] < 1 {
		t.Fatalf("the rule decided %v", count)
	}
	dir, before := stopped(t, run, 120)
	c := begin(t, dir, run, true, nil)
	c.finish()
	got := newCurve()
	got.add(t, before)
	got.add(t, c)
	got.weights = saved(t, dir, "model.safetensors", run)
	got.equal(t, want)
}

// Two islands that spike, of which one is killed: whatever was withheld where, every
// sample is in the model once.
func TestSpikesOfTwo(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Tokens = stepTokens * 300
		jumpy(run)
		run.Spike.Window, run.Spike.Factor = 3, 0.05
	})
	c := begin(t, folder(t), run, false, func(c *trial, e ledger.Event) {
		if s, ok := e.(ledger.StepDone); ok && s.Incarnation == 1 && s.Step == 60 {
			c.signal(s.Island, 1, unix.SIGKILL)
		}
	})
	sum := c.finish()
	if n := len(spikes(t, c.dir)); n == 0 || sum.Spikes != n {
		t.Errorf("%d spikes on the tape, %d in the summary", n, sum.Spikes)
	}
}

// bad is batch 57 of case B5, by its samples.
var bad = ledger.Samples{From: 56 * 4, To: 57 * 4}

// B5 (CASES: batch 57 always gives NaN, checkpoint at 50, at most 3 rollbacks; it is
// replayed for ever). When one spike is enough for a rollback, batch 57 is on the skip
// list after the first one, step 58 is reached, and the list is in the run record.
func TestB5RollsBackOnce(t *testing.T) {
	t.Parallel()
	dir, run := savedAt50(t, 1)
	c := begin(t, dir, run, true, nil, spoiling(int(bad.From), int(bad.To)))
	sum := c.finishWithout(bad)
	if sum.Rollbacks != 1 || sum.Era != 3 || sum.Spikes != 1 {
		t.Errorf("%d rollbacks, %d spikes, era %d", sum.Rollbacks, sum.Spikes, sum.Era)
	}
	if back := recorded[ledger.RolledBack](c)[0]; back.Tokens != stepTokens*50 || !strings.Contains(back.Checkpoint, "00000001") {
		t.Errorf("it went back to %+v", back)
	}
	steps := recorded[ledger.StepDone](c)
	if last := steps[len(steps)-1]; last.Step != 99 || last.Tokens != stepTokens*99 {
		t.Errorf("the last step is %d at %d tokens; without the batch there are 99", last.Step, last.Tokens)
	}
}

// B5 under the default limits: the batch is tried twice and left out, without a rollback.
func TestB5IsLeftOut(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) { run.Spike = runfile.Default().Spike })
	c := begin(t, folder(t), run, false, nil, spoiling(int(bad.From), int(bad.To)))
	sum := c.finishWithout(bad)
	if sum.Rollbacks != 0 || sum.Spikes != 2 || sum.Skipped != 2 {
		t.Errorf("%d rollbacks, %d spikes, %d steps not applied", sum.Rollbacks, sum.Spikes, sum.Skipped)
	}
}

// B5 before the first checkpoint: the run begins anew without the batch.
func TestB5BeforeACheckpoint(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) { run.Spike.Limit = 1 })
	c := begin(t, folder(t), run, false, nil, spoiling(40, 44))
	c.finishWithout(ledger.Samples{From: 40, To: 44})
	if back := recorded[ledger.RolledBack](c)[0]; back.Tokens != 0 || back.Checkpoint != "" {
		t.Errorf("it went back to %+v", back)
	}
}

// B5, otherwise: a run that no rollback helps stops after three, with status not 0, and a
// resume does not begin to count anew.
func TestB5StopsAfterThree(t *testing.T) {
	t.Parallel()
	dir, run := savedAt50(t, 2)
	sum, err := begin(t, dir, run, true, nil, spoiling(60*4, 1<<30)).wait()
	if !errors.Is(err, serve.ErrRunFailed) || sum.Rollbacks != 3 || sum.Era != 5 || !strings.Contains(sum.Reason, "after 3 of 3 rollbacks") {
		t.Fatalf("%v: %+v", err, sum)
	}
	if want := []ledger.Samples{{From: 240, To: 264}}; !slices.Equal(sum.SkippedSamples, want) {
		t.Errorf("%v are left out, want %v", sum.SkippedSamples, want)
	}
	audited(t, dir, -1)
	sum, err = begin(t, dir, run, true, nil, spoiling(60*4, 1<<30)).wait()
	if !errors.Is(err, serve.ErrRunFailed) || sum.Rollbacks != 3 || sum.Era != 6 {
		t.Errorf("resumed: %v: %+v", err, sum)
	}
	audited(t, dir, -1)
}

// savedAt50 is the folder of a run of 50 steps, and the run that goes on to 100 and is
// rolled back by so many spikes.
func savedAt50(t *testing.T, limit int) (string, runfile.Run) {
	t.Helper()
	paths := []string{text(t)}
	with := func(steps runfile.Count) runfile.Run {
		return alone(t, func(run *runfile.Run) {
			run.Data.Paths, run.Tokens = paths, stepTokens*steps
			run.Checkpoint.EveryTokens, run.Spike.Limit = 0, limit
		})
	}
	dir := folder(t)
	begin(t, dir, with(50), false, nil).finish() // its last checkpoint is at 50
	return dir, with(100)
}

// Steps that are never finite, met by two islands: by rollbacks or by second tries they
// are left out in the end, and nothing else is.
func TestTwoIslandsMeetWhatIsNotFinite(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Checkpoint.EveryTokens = stepTokens * 40
		run.Spike.Limit, run.Spike.Rollbacks = 0, 20
	})
	c := begin(t, folder(t), run, false, nil, spoiling(320, 344))
	sum := c.finishWithout(ledger.Samples{From: 320, To: 344})
	t.Logf("%d rollbacks, %d spikes", sum.Rollbacks, sum.Spikes)
}

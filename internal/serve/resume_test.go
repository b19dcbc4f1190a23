package serve_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// parent is a run in a process of its own.
type parent struct {
	t      testing.TB
	cmd    *exec.Cmd
	events *json.Decoder
	seen   []parentEvent
}

func beginParent(t testing.TB, dir, lives string, run runfile.Run) *parent {
	t.Helper()
	order, err := json.Marshal(parentOrder{Dir: dir, Lives: lives, Run: string(run.Marshal())})
	if err != nil {
		t.Fatal(err)
	}
	p := &parent{t: t, cmd: exec.Command(os.Args[0], parentArgument, string(order))}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.events = json.NewDecoder(bufio.NewReader(out))
	t.Cleanup(func() {
		p.cmd.Process.Kill() //nolint:errcheck // it has ended already
		p.cmd.Wait()         //nolint:errcheck // it was killed
	})
	return p
}

// until reads events up to one that is wanted.
func (p *parent) until(wanted func(parentEvent) bool) {
	p.t.Helper()
	for {
		var e parentEvent
		if err := p.events.Decode(&e); err != nil {
			p.t.Fatalf("the parent ended early: %v", err)
		}
		p.seen = append(p.seen, e)
		if wanted(e) {
			return
		}
	}
}

// kill ends the parent by force and waits for the end of its islands, which must
// come within 10 s.
func (p *parent) kill(lives string) {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	began := time.Now()
	files, err := os.ReadDir(lives)
	if err != nil || len(files) == 0 {
		p.t.Fatalf("no island was started: %v", err)
	}
	for _, f := range files {
		within(p.t, "the end of island "+f.Name(), unlocked(p.t, lives+"/"+f.Name()))
	}
	if d := time.Since(began); d > 10*time.Second {
		p.t.Errorf("islands lived on for %v", d)
	}
}

// B6 with the parent killed by force: with one island the resumed run makes the same
// steps as one that was never stopped, to the bit.
func TestB6ParentIsKilled(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) { run.Tokens, run.Checkpoint.EveryTokens = stepTokens*500, stepTokens*30 })
	want, _ := straight(t, run)
	dir, lives := folder(t), t.TempDir()
	p := beginParent(t, dir, lives, run)
	p.until(func(e parentEvent) bool { return e.Kind == "ledger.CheckpointSaved" })
	p.until(func(e parentEvent) bool { return e.Kind == "ledger.StepDone" })
	p.kill(lives)

	c := begin(t, dir, run, true, nil)
	c.finish()
	got := newCurve()
	got.add(t, c)
	got.weights = saved(t, dir, "model.safetensors", run)
	first := uint64(math.MaxUint64)
	for step := range got.loss {
		first = min(first, step)
	}
	if first < 30 || first > 500 {
		t.Errorf("it goes on with step %d", first)
	}
	for step := uint64(1); step < first; step++ { // made before the kill
		got.loss[step], got.rate[step] = want.loss[step], want.rate[step]
	}
	got.equal(t, want)
}

// Two islands, the parent killed at any time: what the newest checkpoint does not
// hold is undone and trained again, once.
func TestParentOfTwoIsKilled(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Tokens = stepTokens * 1000
		run.Checkpoint.EveryTokens = stepTokens * 100
	})
	dir := folder(t)
	lives := t.TempDir()
	p := beginParent(t, dir, lives, run)
	p.until(func(e parentEvent) bool { return e.Kind == "ledger.CheckpointSaved" })
	for range 20 {
		p.until(func(e parentEvent) bool { return e.Kind == "ledger.StepDone" })
	}
	p.kill(lives)
	c := begin(t, dir, run, true, nil)
	c.finish()
	if start := recorded[ledger.RunStarted](c)[0]; start.Era != 2 || start.TokensDone < 100*stepTokens {
		t.Errorf("it goes on with %+v", start)
	}
}

// stopped is a run that was interrupted after so many steps of its first island.
func stopped(t testing.TB, run runfile.Run, after uint64) (string, *trial) {
	t.Helper()
	return stoppedWhen(t, run, func(_ *trial, e ledger.Event) bool {
		s, ok := e.(ledger.StepDone)
		return ok && s.Incarnation == 1 && s.Step == after
	})
}

// stoppedWhen is a run that was interrupted by an event.
func stoppedWhen(t testing.TB, run runfile.Run, when func(*trial, ledger.Event) bool) (string, *trial) {
	t.Helper()
	dir := folder(t)
	c := begin(t, dir, run, false, func(c *trial, e ledger.Event) {
		if when(c, e) {
			c.interruptNow()
		}
	})
	if sum, err := c.wait(); !errors.Is(err, serve.ErrInterrupted) || sum.Checkpoint == nil {
		t.Fatalf("%v: %+v", err, sum)
	}
	return dir, c
}

func islands(n int) []runfile.Island {
	all := []runfile.Island{{Name: "a", Pace: 1}, {Name: "b", Pace: 0.5}, {Name: "c", Pace: 1}, {Name: "d", Pace: 0.5}}
	return all[:n]
}

// B14 (CASES: resume with 2 islands in place of 4; the curve is rescaled by the
// worker count, or warm-up starts again): here the rate rises with the run's tokens
// from its first to nearly its last, so that every step tells at how many tokens it
// was made.
func TestB14ResumeWithOtherIslands(t *testing.T) {
	t.Parallel()
	for name, n := range map[string][2]int{"1 to 2": {1, 2}, "2 to 1": {2, 1}, "4 to 2": {4, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			paths := []string{text(t)}
			with := func(n int) runfile.Run {
				return tiny(t, func(run *runfile.Run) {
					run.Data.Paths, run.Islands = paths, islands(n)
					run.Train.WarmupTokens, run.Train.DecayTokens = run.Tokens/10*9, run.Tokens/10
					waiting(run)
				})
			}
			goOn := together(unix.SIGCONT, []uint64{1, 2, 3, 4}[:n[0]]...)
			dir, before := stoppedWhen(t, with(n[0]), func(c *trial, e ledger.Event) bool {
				goOn(c, e)
				done, ok := e.(ledger.Consumed)
				return ok && done.Tokens >= stepTokens*40
			})
			c := begin(t, dir, with(n[1]), true, nil)
			sum := c.finish()
			if len(sum.Islands) != n[1] {
				t.Errorf("%d islands took part, %d were to", len(sum.Islands), n[1])
			}
			done := recorded[ledger.RunStarted](c)[0].TokensDone
			if done != before.sum.Tokens {
				t.Errorf("it goes on at %d tokens, it was stopped at %d", done, before.sum.Tokens)
			}
			ratesFollowTokens(t, with(n[1]), before, 0)
			ratesFollowTokens(t, with(n[1]), c, done)
		})
	}
}

// ratesFollowTokens: every rate is the schedule's at some number of tokens that a run
// can be at: whole steps, and not before what was in the model when the era began.
func ratesFollowTokens(t testing.TB, run runfile.Run, c *trial, done int64) {
	t.Helper()
	schedule := island.ScheduleOf(run)
	at := map[uint64]int64{}
	for tokens := int64(stepTokens); tokens <= int64(run.Tokens); tokens += stepTokens {
		at[math.Float64bits(schedule.Rate(tokens))] = tokens
	}
	period := int64(run.Exchange.PeriodTokens)
	for _, s := range recorded[ledger.StepDone](c) {
		tokens, known := at[math.Float64bits(s.Rate)]
		if !known && float64(s.Tokens)*(1-run.Train.Beta2) < stepTokens && s.Rate <= schedule.PeakRate {
			continue // joined in mid-run: its rate still rises to the schedule's
		}
		if !known || tokens < done-period {
			t.Fatalf("island %s, step %d: rate %v is that of %d tokens; %d were done", s.Island, s.Step, s.Rate, tokens, done)
		}
	}
}

// A run that is still coordinated is not taken over, and a folder that holds a run
// is not used for another one.
func TestFolderOfALivingRun(t *testing.T) {
	t.Parallel()
	run := tiny(t, nil)
	dir := folder(t)
	ready, goOn := make(chan struct{}), make(chan struct{})
	c := begin(t, dir, run, false, func(_ *trial, e ledger.Event) {
		if s, ok := e.(ledger.StepDone); ok && s.Step == 5 && s.Incarnation == 1 {
			close(ready)
			<-goOn // the run stands still until the others have been refused
		}
	})
	within(t, "a step", ready)
	_, err := begin(t, dir, run, true, nil).wait()
	refused(t, err, "its coordinator still answers", "stop that one first")
	_, err = begin(t, dir, run, false, nil).wait()
	refused(t, err, "already holds a run", "--resume")
	close(goOn)
	c.finish()
}

// refused checks a message for a user, one line with what is wrong and what to do.
func refused(t testing.TB, err error, problem, next string) {
	t.Helper()
	var in *fault.Input
	if !errors.As(err, &in) {
		t.Fatalf("%v is no message for a user", err)
	}
	if line := err.Error(); !strings.Contains(line, problem) || !strings.Contains(line, next) || strings.Contains(line, "\n") {
		t.Errorf("message %q, want %q and %q", line, problem, next)
	}
}

// Danger: two resumes of one run at the same time, and both commit (S4).
func TestTwoResumesRace(t *testing.T) {
	t.Parallel()
	run := alone(t, nil)
	dir, _ := stopped(t, run, 60)
	first, second := begin(t, dir, run, true, nil), begin(t, dir, run, true, nil)
	within(t, "the end of the first", first.done)
	within(t, "the end of the second", second.done)
	won := 0
	for _, c := range []*trial{first, second} {
		if c.err == nil {
			won++
			continue
		}
		t.Log(c.err)
	}
	if won != 1 {
		t.Errorf("%d resumes came to the end", won)
	}
	audited(t, dir, run.TotalSamples())
}

// Of two resumes the one that comes second writes nothing: coordinator.json goes on naming
// the first, which is named to the second, too.
func TestResumeOfAClaimedFolder(t *testing.T) {
	t.Parallel()
	run := alone(t, nil)
	dir, _ := stopped(t, run, 20)
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	release, _, err := st.Claim(t.Context(), "process 4711 on elsewhere", patience)
	if err != nil || release == nil {
		t.Fatalf("the run that was stopped has not let its folder go: %v", err)
	}
	where, eras := read(t, filepath.Join(dir, serve.CoordinatorName)), len(tapes(t, dir))
	_, err = begin(t, dir, run, true, nil, (*serve.Options).Hasty).wait()
	refused(t, err, "is in use by process 4711 on elsewhere", "stop that one first")
	if read(t, filepath.Join(dir, serve.CoordinatorName)) != where || len(tapes(t, dir)) != eras {
		t.Error("the one that was refused has written something")
	}
	release()
	begin(t, dir, run, true, nil).finish()
}

// A finished run has nothing left to do, unless more is asked for.
func TestResumeAFinishedRun(t *testing.T) {
	t.Parallel()
	paths := []string{text(t)}
	with := func(tokens runfile.Count) runfile.Run {
		return alone(t, func(run *runfile.Run) { run.Data.Paths, run.Tokens = paths, tokens })
	}
	dir := folder(t)
	begin(t, dir, with(stepTokens*60), false, nil).finish()
	c := begin(t, dir, with(stepTokens*60), true, nil)
	if sum := c.finish(); sum.Islands[0].Steps != 0 {
		t.Errorf("%d steps of a run that is finished", sum.Islands[0].Steps)
	}
	c = begin(t, dir, with(stepTokens*90), true, nil)
	if sum := c.finish(); sum.Islands[0].Steps != 30 {
		t.Errorf("%d steps, 30 more were asked for", sum.Islands[0].Steps)
	}
	_, err := begin(t, dir, with(stepTokens*40).FromFlag("tokens", "--tokens"), true, nil).wait()
	refused(t, err, "are trained already", "ask for more")
	if !strings.HasPrefix(err.Error(), "--tokens ") {
		t.Errorf("%v does not name the flag", err)
	}
}

// Interrupted at once, before anything is trained.
func TestInterruptAtOnce(t *testing.T) {
	t.Parallel()
	run := tiny(t, nil)
	dir := folder(t)
	c := begin(t, dir, run, false, func(c *trial, e ledger.Event) {
		if _, ok := e.(ledger.IslandStarted); ok {
			c.interruptNow()
		}
	})
	sum, err := c.wait()
	if !errors.Is(err, serve.ErrInterrupted) || sum.Tokens != 0 {
		t.Fatalf("%v: %+v", err, sum)
	}
	c = begin(t, dir, run, true, nil)
	c.finish()
}

// Danger: a run is interrupted before an island has taken its saved state over, and the last
// checkpoint is without it: its moments are lost with the checkpoint before.
func TestInterruptBeforeAStateIsTaken(t *testing.T) {
	t.Parallel()
	run := alone(t, nil)
	dir, _ := stopped(t, run, 20)
	c := begin(t, dir, run, true, func(c *trial, e ledger.Event) {
		if _, ok := e.(ledger.IslandStarted); ok {
			c.interruptNow()
		}
	}, faking("only-2="+actBalk))
	if _, err := c.wait(); !errors.Is(err, serve.ErrInterrupted) {
		t.Fatal(err)
	}
	saved := newestMeta(t, dir).Islands["only"].Slots
	if len(saved) != 3 {
		t.Fatalf("the last checkpoint has %v", saved)
	}
	begin(t, dir, run, true, nil).finish()
	got := restoredRecords(t, dir, 3)["only"]
	for _, slot := range saved {
		if got[slot.Slot] != slot.Digest {
			t.Errorf("%s restored with %s, saved with %s", slot.Slot, got[slot.Slot], slot.Digest)
		}
	}
}

// An island that does not answer holds up an interrupt only so long, and a second
// island's samples are not lost by it.
func TestInterruptWithAFrozenIsland(t *testing.T) {
	t.Parallel() // most of it is waiting
	run, goOn := tiny(t, missed), together(unix.SIGCONT, 1, 2)
	dir := folder(t)
	c := begin(t, dir, run, false, func(c *trial, e ledger.Event) {
		goOn(c, e)
		if s, ok := e.(ledger.StepDone); ok && s.Incarnation == 2 && s.Step == 10 {
			c.signal("slow", 2, unix.SIGSTOP)
			c.interruptNow()
		}
	})
	_, err := c.wait()
	if !errors.Is(err, serve.ErrInterrupted) {
		t.Fatal(err)
	}
	audited(t, dir, c.sum.Tokens/32)
	c = begin(t, dir, run, true, nil)
	c.finish()
}

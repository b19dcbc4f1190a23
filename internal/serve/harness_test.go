package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/audit"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// patience bounds whatever a test waits for; a run ends in one or two seconds, under the race
// detector on a machine that is busy with others in a minute.
const patience = 3 * time.Minute

// text writes files of simple, learnable text and returns their folder.
func text(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for f := range 40 {
		var b strings.Builder
		for i := range 60 {
			fmt.Fprintf(&b, "func step%d(x int) int { return x + %d }\n", i%7, (i*f)%10)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d.txt", f)), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stepTokens is the size of one inner step of a tiny run.
const stepTokens = 32 * 4

// tiny is a run of a tiny model, 200 steps, two islands, that ends in a second.
func tiny(t testing.TB, change func(*runfile.Run)) runfile.Run {
	t.Helper()
	run, err := runfile.Default().WithModel("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	run.Data.Paths = []string{text(t)}
	run.Train.SequenceTokens, run.Train.BatchSequences = 32, 4
	run.Tokens = stepTokens * 200
	run.Exchange.PeriodTokens = stepTokens * 8
	run.Exchange.MaxWaitSeconds = 1
	run.Exchange.StaleVersions = 1000 // a period is a few milliseconds: nobody is late because a core is busy
	run.Eval.Sequences, run.Eval.FinalSequences = 16, 64
	run.Spike.Limit = 0 // losses of this text lie so close that the death of an island can show as a row of spikes; rollbacks have their own tests
	if change != nil {
		change(&run)
	}
	if run, err = run.Resolve(); err != nil {
		t.Fatal(err)
	}
	return run
}

// alone is tiny with one island.
func alone(t testing.TB, change func(*runfile.Run)) runfile.Run {
	return tiny(t, func(run *runfile.Run) {
		run.Islands = []runfile.Island{{Name: "only", Pace: 1}}
		if change != nil {
			change(run)
		}
	})
}

// trial is a run under way.
type trial struct {
	t     testing.TB
	dir   string
	lives string

	stop      context.CancelFunc
	interrupt chan struct{}
	once      sync.Once
	done      chan struct{}
	sum       ledger.Summary
	err       error

	mu     sync.Mutex
	events []ledger.Event
}

// begin starts a run. On is called for each event, one at a time, and must not wait.
func begin(t testing.TB, dir string, run runfile.Run, resume bool, on func(*trial, ledger.Event), change ...func(*serve.Options)) *trial {
	t.Helper()
	c := &trial{t: t, dir: dir, lives: t.TempDir(), interrupt: make(chan struct{}), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	o := serve.Options{
		Run: run, Dir: dir, Resume: resume, StartIsland: islandArguments(c.lives, ""), Interrupt: c.interrupt,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		Emit: func(e ledger.Event) {
			c.mu.Lock()
			c.events = append(c.events, e)
			c.mu.Unlock()
			if on != nil {
				on(c, e)
			}
		},
	}
	for _, change := range change {
		change(&o)
	}
	go func() {
		defer close(c.done)
		c.sum, c.err = serve.Train(ctx, o)
	}()
	t.Cleanup(func() {
		cancel()
		<-c.done
	})
	return c
}

// faking makes one process of a run a fake one.
func faking(who string) func(*serve.Options) {
	return func(o *serve.Options) { o.StartIsland[3] = who }
}

// wait waits for the end of the run.
func (c *trial) wait() (ledger.Summary, error) {
	c.t.Helper()
	within(c.t, "the end of the run", c.done)
	return c.sum, c.err
}

// kill ends the run at once: nothing is said, nothing is flushed.
func (c *trial) kill() {
	c.t.Helper()
	c.stop()
	c.wait() //nolint:errcheck // it was killed
}

// finish waits for an end with every token in the model, and audits the tape.
func (c *trial) finish() ledger.Summary {
	c.t.Helper()
	sum, err := c.wait()
	if err != nil {
		c.t.Fatal(err)
	}
	if sum.Tokens != sum.GoalTokens || sum.Outcome != ledger.RunFinished {
		c.t.Fatalf("%s with %d of %d tokens: %s", sum.Outcome, sum.Tokens, sum.GoalTokens, sum.Reason)
	}
	audited(c.t, c.dir, sum.GoalTokens/32)
	return sum
}

func (c *trial) interruptNow() { c.once.Do(func() { close(c.interrupt) }) }

// recorded are the events of one kind so far.
func recorded[E ledger.Event](c *trial) []E {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []E
	for _, e := range c.events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// process of an incarnation that has said Hello.
func (c *trial) process(island string, incarnation uint64) life {
	data, err := os.ReadFile(lifeFile(c.lives, island, incarnation))
	var l life
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		c.t.Errorf("process of island %s, incarnation %d: %v", island, incarnation, err)
	}
	return l
}

// signal sends a signal to an island's process.
func (c *trial) signal(island string, incarnation uint64, sig unix.Signal) {
	if l := c.process(island, incarnation); l.PID > 0 {
		if err := unix.Kill(l.PID, sig); err != nil {
			c.t.Errorf("signal to island %s: %v", island, err)
		}
	}
}

// together holds each of these incarnations when it is ready, before any of its steps can
// count, until all of them are; then they are sent a signal.
func together(then unix.Signal, incarnations ...uint64) func(*trial, ledger.Event) {
	ready := map[uint64]string{}
	return func(c *trial, e ledger.Event) {
		r, ok := e.(ledger.IslandReady)
		if !ok || !slices.Contains(incarnations, r.Incarnation) {
			return
		}
		c.signal(r.Island, r.Incarnation, unix.SIGSTOP)
		if ready[r.Incarnation] = r.Island; len(ready) == len(incarnations) {
			for incarnation, island := range ready {
				c.signal(island, incarnation, then)
			}
		}
	}
}

// waiting is a run whose islands may wait long for each other, and do not train far ahead
// of what is merged: what a test does to them comes in time.
func waiting(run *runfile.Run) {
	run.Limits.HeartbeatSeconds, run.Limits.StallSeconds = patience.Seconds(), patience.Seconds()
	run.Limits.RunwaySeconds = 0.01
}

// dead is closed when the process has ended.
func (c *trial) dead(island string, incarnation uint64) <-chan struct{} {
	return unlocked(c.t, lifeFile(c.lives, island, incarnation))
}

// unlocked is closed when nobody holds the lock of a file any more.
func unlocked(t testing.TB, name string) <-chan struct{} {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	free := make(chan struct{})
	go func() {
		defer close(free)
		defer f.Close()
		for unix.Flock(int(f.Fd()), unix.LOCK_EX) == unix.EINTR {
		}
	}()
	return free
}

// within waits for done and prints every goroutine when it does not come.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) //nolint:errcheck // it goes wrong already
		t.Fatalf("%s did not come within %v", what, patience)
	}
}

// audited checks the tapes of all eras: nothing merged twice, every sample counted once.
func audited(t testing.TB, dir string, samples int64) audit.Report {
	t.Helper()
	report, err := audit.Run(tapes(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("tape: %s", p)
	}
	if samples >= 0 && report.Consumed != samples {
		t.Errorf("tape: %d samples are consumed, %d were to be", report.Consumed, samples)
	}
	return report
}

func tapes(t testing.TB, dir string) []audit.Era {
	t.Helper()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var eras []audit.Era
	for n := 1; ; n++ {
		read := func(writer string) []json.RawMessage {
			segments, err := store.ReadSequence(context.Background(), st, fmt.Sprintf("tape/era-%04d/%s", n, writer))
			if err != nil {
				t.Fatal(err)
			}
			var out []json.RawMessage
			for _, s := range segments {
				out = append(out, s.Records...)
			}
			return out
		}
		era := audit.Era{Coordinator: read("coord"), Group: read("group-0")}
		if len(era.Coordinator) == 0 {
			return eras
		}
		eras = append(eras, era)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// closedAt is the position at which an incarnation was closed, according to the tape.
func closedAt(t testing.TB, dir string, incarnation uint64) int64 {
	t.Helper()
	for _, era := range tapes(t, dir) {
		for _, raw := range era.Coordinator {
			var r coord.CloseRecord
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			if r.Kind == "close" && r.Incarnation == incarnation {
				return r.Position
			}
		}
	}
	t.Fatalf("incarnation %d is not closed on the tape", incarnation)
	return 0
}

package serve_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Islands of these tests live in the test's own process: what they share with another
// host is everything but the run folder, which a test may take from them.

var joinNote = regexp.MustCompile(`MISTURA_JOIN='(\S+)'`)

// served is a run that islands join from outside. Both end with the test, however far they are.
type served struct {
	*trial
	joins   chan string
	islands sync.WaitGroup
	mu      sync.Mutex
	ends    map[string]error
}

func serveRun(t testing.TB, dir string, run runfile.Run, resume bool, change ...func(*serve.Options)) *served {
	t.Helper()
	s := &served{joins: make(chan string, 16), ends: map[string]error{}}
	t.Cleanup(s.islands.Wait) // the run has ended by then
	all := append([]func(*serve.Options){func(o *serve.Options) { o.Outside, o.Listen = true, "127.0.0.1:0" }}, change...)
	s.trial = begin(t, dir, run, resume, func(_ *trial, e ledger.Event) {
		if note, ok := e.(ledger.Note); ok {
			if m := joinNote.FindStringSubmatch(note.Text); m != nil {
				s.joins <- m[1]
			}
		}
	}, all...)
	return s
}

// invitation is the join string that the run shows.
func (s *served) invitation() wire.Join {
	s.t.Helper()
	select {
	case text := <-s.joins:
		j, err := wire.ParseJoin(text)
		if err != nil {
			s.t.Fatal(err)
		}
		return j
	case <-s.done:
		s.t.Fatalf("the run ended before anybody could join: %v", s.err)
	case <-time.After(patience):
		s.t.Fatal("no join string")
	}
	panic("unreachable")
}

// join starts an island, which the end of the test ends; stop makes it vanish.
func (s *served) join(j wire.Join, name string, change ...func(*island.Options)) (stop func(), leave func()) {
	ctx, cancel := context.WithCancel(s.t.(*testing.T).Context())
	left := make(chan struct{})
	j.Island = name
	o := island.Options{Join: j, Version: "test", Leave: left, Logger: slog.New(slog.NewTextHandler(testWriter{s.t}, nil))}
	for _, c := range change {
		c(&o)
	}
	s.islands.Go(func() {
		err := island.Run(ctx, o)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ends[name] = err
	})
	return cancel, sync.OnceFunc(func() { close(left) })
}

// over waits for the islands and tells how one ended.
func (s *served) over(name string) error {
	s.islands.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[name]
}

// open is a run without a list of islands.
func open(run *runfile.Run) {
	run.Islands, run.Gate = nil, runfile.GateOff
	run.Checkpoint.EveryTokens = stepTokens * 50
}

// listed is a run for islands a and b.
func listed(run *runfile.Run) {
	open(run)
	run.Islands = []runfile.Island{{Name: "a", Pace: 1}, {Name: "b", Pace: 1}}
}

func TestIslandsFromOutside(t *testing.T) {
	t.Parallel()
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), tiny(t, open), false)
	j := s.invitation()
	s.join(j, "rack-1")
	s.join(j, "")
	sum := s.finish()
	for _, name := range []string{"rack-1", ""} {
		if err := s.over(name); err != nil {
			t.Errorf("island %q: %v", name, err)
		}
	}
	if len(sum.Islands) != 2 || sum.Islands[0].Name == sum.Islands[1].Name {
		t.Errorf("islands %+v", sum.Islands)
	}
}

// elsewhere makes islands believe that they are on another host: the run folder that
// they see is not that of the run.
func (s *served) elsewhere() {
	s.t.Helper()
	path := filepath.Join(s.dir, "coordinator.json")
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		s.t.Fatal(err)
	}
	c["nonce"] = "another"
	if data, err = json.Marshal(c); err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// savedOf is the island's part of the newest checkpoint.
func savedOf(t *testing.T, dir, island string) bool {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(dir, "checkpoints", "*", "islands", island+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return len(parts) > 0
}

// wayLine is what an island says of the way to a coordinator on another host (G15).
var wayLine = regexp.MustCompile(`msg=reached way="TCP from 127\.0\.0\.1 \(interface lo\) to 127\.0\.0\.1:\d+: \d+\.\d MB/s down, \d+\.\d MB/s up"\n`)

// The danger: an island on another host has no data, or its state is lost, or it reads
// the folder of another run that happens to lie at the same path. It says once how it
// reaches the coordinator, and how fast.
func TestIslandOnAnotherHost(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1000
	}), false)
	j := s.invitation()
	s.elsewhere()
	var said bytes.Buffer
	s.join(j, "a", func(o *island.Options) { o.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
	s.join(j, "b")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.CheckpointSaved); return ok })
	s.interruptNow()
	if _, err := s.wait(); !errors.Is(err, serve.ErrInterrupted) {
		t.Fatal(err)
	}
	s.islands.Wait()
	if n := len(wayLine.FindAll(said.Bytes(), -1)); n != 1 {
		t.Errorf("the way is told %d times in\n%s", n, &said)
	}
	if !savedOf(t, dir, "a") || !savedOf(t, dir, "b") {
		t.Error("a state is missing in every checkpoint")
	}
	copies, err := filepath.Glob(filepath.Join(cache, "mistura", "data", "*", "*"))
	if err != nil || len(copies) != 3 {
		t.Errorf("the cache holds %v, %v", copies, err)
	}
	moved := filepath.Join(t.TempDir(), "of", "another", "machine") // the run folder goes there, and what it was is gone
	if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	dir = moved
	again := serveRun(t, dir, resumedRun(t, dir), true)
	j = again.invitation()
	again.elsewhere()
	again.join(j, "a")
	again.join(j, "b")
	again.finish()
	for _, name := range []string{"a", "b"} {
		if err := again.over(name); err != nil {
			t.Errorf("island %s: %v", name, err)
		}
		ready := again.readyOf(name)
		if ready.Steps == 0 {
			t.Errorf("island %s did not take its state over: %+v", name, ready)
		}
	}
}

func resumedRun(t *testing.T, dir string) runfile.Run {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "run.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	run, err := runfile.Parse("run.yaml", data)
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// until waits for an event.
func (c *trial) until(is func(ledger.Event) bool) {
	c.t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		for _, e := range c.events {
			if is(e) {
				c.mu.Unlock()
				return
			}
		}
		c.mu.Unlock()
	}
	c.t.Fatal("the event did not come")
}

// readyOf is the first IslandReady of an island.
func (c *trial) readyOf(name string) (out ledger.IslandReady) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if r, ok := e.(ledger.IslandReady); ok && r.Island == name {
			return r
		}
	}
	return out
}

// The danger: the run ends, or is given up, when nobody is there; or the place of an
// island that vanished stays taken.
func TestOutsideIslandVanishesAndComesBack(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Islands = r.Islands[:1]
		r.Tokens = stepTokens * 300
	})
	vanish := make(chan func(), 1)
	var once sync.Once
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false, func(o *serve.Options) {
		emit := o.Emit
		o.Emit = func(e ledger.Event) {
			if emit(e); firstMerge(e) {
				once.Do(func() { (<-vanish)() }) // the run waits for this: it cannot be over before
			}
		}
	})
	j := s.invitation()
	stop, _ := s.join(j, "a")
	vanish <- stop
	s.islands.Wait()
	s.join(j, "a")
	sum := s.finish()
	if err := s.over("a"); err != nil {
		t.Error(err)
	}
	if len(sum.Islands) != 1 || sum.Islands[0].Restarts == 0 {
		t.Errorf("islands %+v", sum.Islands)
	}
}

// The danger: who should stay out comes in, or is told less than what to do about it.
func TestJoinStringsThatAreRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1_000_000
	}), false)
	j := s.invitation()
	limited := func(l authority.Token) wire.Join {
		t.Helper()
		joins, err := serve.Joins(dir, l)
		if err != nil {
			t.Fatal(err)
		}
		return joins[0]
	}
	once := limited(authority.Token{ID: "0000aaaa", Uses: 1})
	s.join(once, "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.IslandReady); return ok })
	other, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	forged := j
	forged.Token = other.Issue(j.RunID, authority.Token{ID: "0000bbbb"})
	foreign := j
	foreign.RunID = "another"
	stranger := j
	stranger.Authority = other.Fingerprint()
	for name, c := range map[string]struct {
		join   wire.Join
		island string
		want   string
	}{
		"expired":       {limited(authority.Token{ID: "0000cccc", Expires: time.Unix(1_700_000_000, 0)}), "b", "its token 0000cccc expired on 2023-11-14 22:13:20 UTC"},
		"used up":       {once, "b", "join string 0000aaaa was for 1 uses, all of which are used up"},
		"forged":        {forged, "b", "its token 0000bbbb is not of this run, or was altered"},
		"another run":   {foreign, "b", "who answers there is not the coordinator of this run"},
		"other host":    {stranger, "b", "who answers there is not the coordinator of this run"},
		"taken name":    {j, "a", `island "a" is here already (incarnation 1); free: b`},
		"unlisted name": {j, "c", `the run has no island "c"; free: b`},
		"for another":   {limited(authority.Token{ID: "0000dddd", Island: "b"}), "a", `the join string is for island "b", not "a"`},
	} {
		err := island.Run(t.Context(), island.Options{
			Join: named(c.join, c.island), Version: "test", Leave: make(chan struct{}), Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if bad := (*fault.Input)(nil); !errors.As(err, &bad) {
			t.Errorf("%s: %v is no fault of who joins", name, err)
		}
	}
}

func named(j wire.Join, island string) wire.Join {
	j.Island = island
	return j
}

// TestE12OtherTokens: two hosts with own disks each have their own tokens. An island whose
// data differ is refused before its first step, with both digests.
func TestE12OtherTokens(t *testing.T) {
	t.Parallel()
	dir, other := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "other")
	long := func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1_000_000
	}
	o := serveRun(t, other, tiny(t, func(r *runfile.Run) {
		long(r)
		r.Data.ValidShare = 0.2
	}), false)
	o.invitation()
	s := serveRun(t, dir, tiny(t, long), false)
	j := s.invitation()
	own, err := island.DataDigest(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := island.DataDigest(filepath.Join(other, "data"))
	if err != nil {
		t.Fatal(err)
	}
	err = island.Run(t.Context(), island.Options{
		Join: named(j, "a"), Version: "test", Leave: make(chan struct{}), Data: filepath.Join(other, "data"), Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	if err == nil || !strings.Contains(err.Error(), hex.EncodeToString(theirs)) || !strings.Contains(err.Error(), hex.EncodeToString(own)) {
		t.Errorf("%v", err)
	}
	s.join(j, "b", func(o *island.Options) { o.Data = filepath.Join(dir, "data") })
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.IslandReady); return ok })
}

// TestC5JoinerDiesWhileItIsSeeded: the joiner is killed at half of the state transfer. The
// others go on merging; the joiner starts again and holds what everybody holds, or it
// would be quarantined for its digests.
func TestC5JoinerDiesWhileItIsSeeded(t *testing.T) {
	t.Parallel()
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1500
	}), false)
	j := s.invitation()
	s.join(j, "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.Merged); return ok })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := transport.Dial(ctx, named(j, "b"), &wire.Hello{Pid: 1})
	if err != nil {
		t.Fatal(err)
	}
	for half := false; !half; {
		m, err := c.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		half = m.GetFragment() != nil // the first of several
	}
	merges := s.merges()
	c.Close() //nolint:errcheck // killed: nobody reads on
	s.until(func(e ledger.Event) bool {
		gone, ok := e.(ledger.IslandGone)
		return ok && gone.Island == "b" && strings.Contains(gone.Reason, "while it was being seeded")
	})
	for limit := time.Now().Add(10 * time.Second); s.merges() < merges+8; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d merges in 10 s", s.merges()-merges)
		}
	}
	s.join(j, "b")
	sum := s.finish()
	for _, name := range []string{"a", "b"} {
		if err := s.over(name); err != nil {
			t.Errorf("island %s: %v", name, err)
		}
	}
	for _, i := range sum.Islands {
		if i.Tokens == 0 || i.Name == "b" && i.Restarts != 1 {
			t.Errorf("%+v", i)
		}
	}
}

// merges counts those so far.
func (c *trial) merges() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if _, ok := e.(ledger.Merged); ok {
			n++
		}
	}
	return n
}

// What the desk gives out and takes is what islands need, and nothing else: above all not
// the run's key.
func TestDeskKeepsToItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1_000_000
	}), false)
	c, err := transport.Call(s.invitation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range []string{
		"authority/authority.pem", "data/../authority/authority.pem", "data//index.json", "/etc/passwd", "data", "data/", "tape/era-0001/coord/0000000001.jsonl",
		"coordinator.json", "data/.hidden", "checkpoints/../run.yaml", "", "checkpoints",
	} {
		if n, err := c.Fetch(t.Context(), name, 0, 1<<20, io.Discard); !errors.Is(err, transport.ErrRefused) || n != 0 {
			t.Errorf("%q: %d bytes, %v", name, n, err)
		}
	}
	for _, name := range []string{"data/index.json", "run.yaml"} {
		if n, err := c.Fetch(t.Context(), name, 0, 1<<20, io.Discard); err != nil || n == 0 {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	for _, name := range []string{"checkpoints/00000001/islands/a.safetensors", "authority/authority.pem", "data/index.json", "checkpoints/00000001/manifest.json", "../x"} {
		if _, err := c.Store(t.Context(), name, 1, func(w io.Writer) error {
			_, err := w.Write([]byte("x"))
			return err
		}); !errors.Is(err, transport.ErrRefused) {
			t.Errorf("stored %q: %v", name, err)
		}
	}
	join, err := serve.Ask(dir)
	if err != nil {
		t.Fatal(err)
	}
	own, err := transport.Call(join)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	text, err := own.Status(t.Context())
	var f ledger.Fleet
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil || f.Waiting != "no island is there; the run waits for one to join" {
		t.Errorf("%s, %v", text, err)
	}
}

// The danger: a rollback ends everybody who came from outside. They are asked to come
// again, and do, under the same join string.
func TestRollbackCallsOutsideIslandsBack(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Spike.Limit = 1
	})
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false)
	j := s.invitation()
	spoil := func(o *island.Options) {
		o.Spoil = func(samples []uint64, grads []float32) {
			if slices.Contains(samples, 41) {
				grads[0] = float32(math.NaN())
			}
		}
	}
	s.join(j, "a", spoil)
	s.join(j, "b", spoil)
	sum, err := s.wait()
	if err != nil || sum.Rollbacks != 1 || sum.Era != 2 {
		t.Errorf("%d rollbacks, era %d, %v", sum.Rollbacks, sum.Era, err)
	}
	for _, name := range []string{"a", "b"} {
		if err := s.over(name); err != nil {
			t.Errorf("island %s: %v", name, err)
		}
	}
}

package serve_test

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// relay is the way between an island and the coordinator, which can be cut.
type relay struct {
	lis  net.Listener
	full chan struct{} // closed when as much has reached the island as may
	once sync.Once     // closes it
	lost chan struct{} // somebody has found the way cut

	mu    sync.Mutex
	to    string // empty: it is cut
	most  int64  // bytes of a connection that reach the island; 0: all
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// through makes a way to a coordinator; the end of the test takes it down.
func through(t *testing.T, to string) *relay {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{lis: lis, full: make(chan struct{}), lost: make(chan struct{}, 1), to: to, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		lis.Close()
		r.lead("")
		r.wg.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		in, err := r.lis.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		to, most := r.to, r.most
		r.mu.Unlock()
		out, err := net.Dial("tcp", to) // fails where there is no address
		if err != nil {
			in.Close()
			select {
			case r.lost <- struct{}{}:
			default:
			}
			continue
		}
		r.mu.Lock()
		r.conns[in], r.conns[out] = true, true
		r.mu.Unlock()
		for _, ends := range [][2]net.Conn{{in, out}, {out, in}} {
			r.wg.Go(func() {
				if most > 0 && ends[0] == in {
					r.some(in, out, most)
				} else {
					io.Copy(ends[0], ends[1]) //nolint:errcheck // any end is the end
				}
				in.Close()
				out.Close()
			})
		}
	}
}

// some brings so many bytes to the island; what follows them is lost on the way.
func (r *relay) some(in, out net.Conn, most int64) {
	if n, _ := io.CopyN(in, out, most); n == most { // any error is the end
		r.once.Do(func() { close(r.full) })
	}
	io.Copy(io.Discard, out) //nolint:errcheck // any end is the end
}

// atMost has so many bytes of each new connection reach the island, 0 for all; what it gives is closed
// when they have.
func (r *relay) atMost(bytes int64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = bytes
	return r.full
}

// lead has the way lead elsewhere, or nowhere; whoever is on it is cut off.
func (r *relay) lead(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

// on is the join string of an island that goes this way.
func (r *relay) on(j wire.Join) wire.Join {
	j.Address = r.lis.Addr().String()
	return j
}

// brief is a run that takes an island for dead after some seconds of silence.
func brief(r *runfile.Run) {
	listed(r)
	r.Islands = r.Islands[:1]
	r.Tokens = stepTokens * 1000
	r.Limits.HeartbeatSeconds, r.Limits.StallSeconds = 5, 5
}

// The danger: an island whose way was cut for longer than the run has patience with it ends
// for good, although it could go on. It comes back as the next incarnation of its name, also
// by a join string that was good for one start and has expired since.
func TestAnIslandThatWasCutOffComesBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, tiny(t, brief), false)
	j := s.invitation()
	joins, err := serve.Joins(dir, authority.Token{ID: "0000aaaa", Uses: 1, Island: "a"})
	if err != nil {
		t.Fatal(err)
	}
	way := through(t, j.Address)
	s.join(way.on(joins[0]), "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.Merged); return ok })
	way.lead("")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.IslandGone); return ok })
	way.lead(j.Address)
	sum := s.finish()
	if err := s.over("a"); err != nil {
		t.Error(err)
	}
	if len(sum.Islands) != 1 || sum.Islands[0].Name != "a" || sum.Islands[0].Restarts != 1 {
		t.Errorf("islands %+v", sum.Islands)
	}
}

// The danger: the coordinator is killed and goes on in another era, and an island that was
// there all the time is told that its secret is wrong. It goes on in the new era; a secret
// that is really wrong stays wrong.
func TestAnIslandGoesOnInTheNextEra(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, tiny(t, func(r *runfile.Run) {
		brief(r)
		r.Limits.HeartbeatSeconds, r.Limits.StallSeconds = 20, 20
		r.Checkpoint.EveryTokens = stepTokens * 200
	}), false)
	j := s.invitation()
	way := through(t, j.Address)
	s.join(way.on(j), "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.CheckpointSaved); return ok })
	way.lead("") // so that the island hears nothing of the end
	s.kill()
	at := serve.Listened(dir)
	if at != j.Address {
		t.Errorf("it listened at %q, and the run folder says %q", j.Address, at)
	}
	again := serveRun(t, dir, resumedRun(t, dir), true, func(o *serve.Options) { o.Listen = at })
	j = again.invitation()
	forged := j
	forged.Token, forged.Secret = "", "1~1~a~AAAA"
	err := island.Run(t.Context(), island.Options{
		Join: named(forged, "a"), Version: "test", Leave: make(chan struct{}), Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	if !errors.Is(err, island.ErrExpelled) || !strings.Contains(err.Error(), "the secret of the join string (10 characters) is not that of run") {
		t.Errorf("a forged secret: %v", err)
	}
	way.lead(j.Address)
	again.finish()
	if err := s.over("a"); err != nil {
		t.Error(err)
	}
	if ready := again.readyOf("a"); ready.Steps == 0 {
		t.Errorf("it did not take its saved state over: %+v", ready)
	}
}

// TestC5DonorDiesWhileItSeeds: the coordinator, from which every joiner has the model, is killed at
// half of the state transfer. Who was there and who was joining go on with the one that takes
// its place; the joiner holds what everybody holds, or it would be quarantined for its digests.
func TestC5DonorDiesWhileItSeeds(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	run := tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1_000_000
		r.Limits.HeartbeatSeconds, r.Limits.StallSeconds = 20, 20
		r.Checkpoint.EveryTokens = stepTokens * 200
	})
	s := serveRun(t, dir, run, false)
	j := s.invitation()
	old, young := through(t, j.Address), through(t, j.Address)
	half := young.atMost(2 * int64(run.Size())) // of 4 bytes for each parameter
	s.join(old.on(j), "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.CheckpointSaved); return ok })
	s.join(young.on(j), "b")
	within(t, "half of the model", half)
	old.lead("") // so that nobody hears of the end
	young.lead("")
	s.kill()
	if ready := s.readyOf("b"); ready.Island != "" {
		t.Errorf("it had all of the model: %+v", ready)
	}
	young.atMost(0)
	again := serveRun(t, dir, resumedRun(t, dir), true)
	j = again.invitation()
	old.lead(j.Address)
	young.lead(j.Address)
	for _, name := range []string{"a", "b"} {
		again.until(func(e ledger.Event) bool {
			m, ok := e.(ledger.Merged)
			return ok && slices.Contains(m.Islands, name)
		})
	}
	if gone := recorded[ledger.IslandGone](again.trial); len(gone) > 0 {
		t.Errorf("an island was lost: %v", gone)
	}
	if ready := again.readyOf("a"); ready.Steps == 0 {
		t.Errorf("who was there did not take its saved state over: %+v", ready)
	}
}

// The danger: an island gives up on a coordinator that is away for less than its samples
// reach. Its patience is the run's runway.
func TestPatienceIsTheRunway(t *testing.T) {
	t.Parallel()
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), tiny(t, func(r *runfile.Run) {
		brief(r)
		r.Tokens = stepTokens * 1_000_000
		r.Limits.HeartbeatSeconds, r.Limits.StallSeconds = 20, 20
		r.Limits.RunwaySeconds = 1.5
	}), false)
	j := s.invitation()
	way := through(t, j.Address)
	s.join(way.on(j), "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.Merged); return ok })
	way.lead("")
	if err := s.over("a"); err == nil || !strings.Contains(err.Error(), "did not come back within 1.5s") {
		t.Errorf("%v", err)
	}
}

// The danger: who has a pass of one island writes the state of another one, or states of
// checkpoints that nobody has asked for.
func TestStatesAreTakenFromWhoWasAsked(t *testing.T) {
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), tiny(t, func(r *runfile.Run) {
		listed(r)
		r.Tokens = stepTokens * 1_000_000
	}), false)
	j := s.invitation()
	s.join(j, "a")
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.IslandReady); return ok })
	c, err := transport.Dial(t.Context(), named(j, "b"), &wire.Hello{Pid: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Recv(t.Context())
	if err != nil || m.GetWelcome() == nil {
		t.Fatalf("%v, %v", m.ToLearner, err)
	}
	j.Token, j.Secret = "", m.GetWelcome().Secret
	calls, err := transport.Call(j)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		island      string
		incarnation uint64
		want        string
	}{
		"of another":        {"a", 1, "who sends it is not incarnation 1 of era 1"},
		"in another's name": {"a", 2, "is not what the run waits for from this incarnation"},
		"not asked for":     {"b", 2, "is not what the run waits for from this incarnation"},
	} {
		_, err := calls.Store(t.Context(), "checkpoints/00000099/islands/"+c.island+".safetensors", c.incarnation, func(w io.Writer) error {
			_, err := w.Write([]byte("x"))
			return err
		})
		if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	calls.Close()
	c.Close() //nolint:errcheck // it has had what it came for
}

// The danger: a port that somebody has leaves a folder that "already holds a run", in which the
// same command is then refused for good.
func TestATakenPortLeavesNoRun(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, tiny(t, open), false, func(o *serve.Options) { o.Listen = lis.Addr().String() })
	if _, err := s.wait(); err == nil || !strings.Contains(err.Error(), "cannot be listened at: bind: address already in use") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "run.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run was begun: %v", err)
	}
}

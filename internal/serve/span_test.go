package serve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// spanning is an island from outside on two hosts, each with a way of its own to the coordinator.
type spanning struct {
	t    *testing.T
	s    *served
	run  runfile.Run
	ways [2]*relay
	how  [2]island.Options // its next life begins
}

// span prepares the island of a run.
func span(t *testing.T, s *served, run runfile.Run) *spanning {
	x := &spanning{t: t, s: s, run: run}
	j := named(s.invitation(), "a")
	for host := range x.ways {
		x.ways[host] = through(t, j.Address)
		x.how[host] = island.Options{Join: x.ways[host].on(j), Version: "test", Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	}
	return x
}

// spanLife is one life of such an island.
type spanLife struct {
	trainer *attachtest.Trainer
	ended   [2]chan error // the processes of its hosts
	held    chan struct{} // closed when the trainer stands before step heldAt
	goOn    chan struct{} // closed: it goes on there
	over    chan error    // the trainer
}

// heldAt is the step before which a trainer may be held.
const heldAt = 25

// host starts the process of a host, and gives its socket.
func (x *spanning) host(host int, l *spanLife) string {
	path := filepath.Join(x.t.TempDir(), "s")
	ctx, cancel := context.WithCancelCause(x.t.Context())
	crew, err := attach.Listen(attach.Options{Path: path, Version: "test", Logger: slog.New(slog.DiscardHandler), Lost: cancel})
	if err != nil {
		x.t.Fatal(err)
	}
	o := x.how[host]
	o.Crew, l.ended[host] = crew, make(chan error, 1)
	x.s.islands.Go(func() {
		defer cancel(nil)
		l.ended[host] <- island.Run(ctx, o)
	})
	return path
}

// live begins a life, of which hold stops the trainer once.
func (x *spanning) live(hold bool) *spanLife {
	l := &spanLife{held: make(chan struct{}), goOn: make(chan struct{}), over: make(chan error, 1)}
	sockets := [2]string{x.host(0, l), x.host(1, l)}
	hellos := attachtest.Keeping(hellosOfTwoHosts(x.run, attachtest.Rows))
	var err error
	if l.trainer, err = attachtest.Join(sockets[0], patience, hellos[:2]...); err != nil {
		x.t.Fatal(err)
	}
	hellos[2].Incarnation = l.trainer.Ranks[0].Welcome.Incarnation
	x.s.islands.Go(func() {
		rest, err := attachtest.Join(sockets[1], patience, hellos[2])
		if err != nil {
			l.over <- err
			return
		}
		l.trainer.Ranks, l.trainer.Tokens = append(l.trainer.Ranks, rest.Ranks...), int64(x.run.Train.SequenceTokens)
		err = l.trainer.Run(func(step uint64) error {
			if hold && step == heldAt {
				close(l.held)
				select {
				case <-l.goOn:
				case <-x.t.Context().Done():
				}
			}
			return nil
		})
		if err == nil {
			err = l.trainer.Ranks[2].Say(&attach.Bye{Reason: "the run is over"})
		}
		l.over <- err
		<-x.t.Context().Done()
		l.trainer.Close()
	})
	return l
}

// end is what a channel of ends brings.
func end(t *testing.T, what string, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatalf("%s did not end", what)
	}
	return nil
}

// recalled waits until trainer and hosts know that they are to join again, and has the next life
// begin as a process does that goes on: by what it was told, and no join string.
func (x *spanning) recalled(l *spanLife, why [2]string) {
	x.t.Helper()
	if bad := (*attachtest.Refusal)(nil); !errors.As(end(x.t, "the trainer", l.over), &bad) || !bad.Again {
		x.t.Errorf("the trainer hears %+v", bad)
	}
	for host := range l.ended {
		err := end(x.t, "a host", l.ended[host])
		again := (*island.Recalled)(nil)
		if !errors.As(err, &again) || !strings.Contains(err.Error(), why[host]) {
			x.t.Fatalf("host %d ends with %v", host, err)
		}
		x.how[host] = again.Again(x.how[host])
		x.how[host].Join.Token = ""
	}
}

// spanned is a run of one trainer that islands lose after some seconds of silence.
func spanned(t *testing.T, change func(*runfile.Run)) runfile.Run {
	return tiny(t, outsider(func(r *runfile.Run) {
		listed(r)
		r.Islands = r.Islands[:1]
		r.Limits.HeartbeatSeconds, r.Limits.StallSeconds = 20, 20
		if change != nil {
			change(r)
		}
	}))
}

func firstMerge(e ledger.Event) bool { _, ok := e.(ledger.Merged); return ok }

// The danger: the stream of a further host breaks for a moment, and that host ends for good, or may
// not come back because its join string is used up or has expired, while the first one comes back. All hosts
// hear that they are to join again, and do by their passes; each of them says how it reaches the coordinator (G15).
func TestAHostThatWasCutOffComesBack(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	run := spanned(t, nil)
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false)
	x := span(t, s, run)
	s.elsewhere()
	var said bytes.Buffer
	x.how[1].Logger = slog.New(slog.NewTextHandler(io.MultiWriter(&said, testWriter{t}), nil))
	to := x.ways[1].to
	l := x.live(true)
	within(t, "a step", l.held)
	x.ways[1].lead("")
	s.until(func(e ledger.Event) bool {
		gone, ok := e.(ledger.IslandGone)
		return ok && strings.Contains(gone.Reason, "its host 1 is gone")
	})
	x.ways[1].lead(to)
	close(l.goOn)
	x.recalled(l, [2]string{"asked to join again: its host 1 is gone", "asked to join again: its host 1 was cut off"})
	if n := len(wayLine.FindAll(said.Bytes(), -1)); n != 1 {
		t.Errorf("the way of the second host is told %d times in\n%s", n, &said)
	}
	if err := end(t, "the trainer", x.live(false).over); err != nil {
		t.Errorf("the second life: %v", err)
	}
	if sum := s.finish(); len(sum.Islands) != 1 || sum.Islands[0].Restarts != 1 {
		t.Errorf("islands %+v", sum.Islands)
	}
}

// The danger: the trainer of both hosts joins again at once, as Python's does, while the way of the
// second one is still cut: it is refused although the run waits for it.
func TestAHostComesBackBeforeItsWay(t *testing.T) {
	t.Parallel()
	run := spanned(t, nil)
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false)
	x := span(t, s, run)
	to := x.ways[1].to
	l := x.live(true)
	within(t, "a step", l.held)
	x.ways[1].lead("")
	close(l.goOn)
	if bad := (*attachtest.Refusal)(nil); !errors.As(end(t, "the trainer", l.over), &bad) || !bad.Again {
		t.Fatalf("the trainer hears %+v", bad)
	}
	for host, rank := range []*attachtest.Rank{l.trainer.Ranks[0], l.trainer.Ranks[2]} {
		back, err := wire.ParseJoin(rank.Welcome.Back)
		if err != nil {
			t.Fatalf("host %d: %v", host, err)
		}
		x.how[host].Join, x.how[host].Patience = back, patience
	}
	l.trainer.Close()
	end(t, "the second host", l.ended[1]) //nolint:errcheck // its trainer has dropped out
	select {
	case <-x.ways[1].lost: // who has looked for the run there was the first life
	default:
	}
	second := x.live(false)
	within(t, "the second host's look for the run", x.ways[1].lost)
	x.ways[1].lead(to)
	if err := end(t, "the trainer", second.over); err != nil {
		t.Errorf("the second life: %v", err)
	}
	s.finish()
}

// The danger: the coordinator is killed and goes on in another era, and an island on two hosts comes back
// with its first host alone. It takes its saved state over.
func TestTwoHostsGoOnInTheNextEra(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	run := spanned(t, func(r *runfile.Run) { r.Tokens = stepTokens * 1_000_000 })
	s := serveRun(t, dir, run, false)
	x := span(t, s, run)
	l := x.live(false)
	s.until(func(e ledger.Event) bool { _, ok := e.(ledger.CheckpointSaved); return ok })
	for _, way := range x.ways {
		way.lead("") // so that nobody hears of the end
	}
	s.kill()
	again := serveRun(t, dir, resumedRun(t, dir), true)
	to := again.invitation().Address
	for _, way := range slices.Backward(x.ways[:]) {
		way.lead(to)
	}
	x.recalled(l, [2]string{"era 1 is over", "era 1 is over"})
	x.live(false)
	again.until(firstMerge)
	if ready := again.readyOf("a"); ready.Steps == 0 {
		t.Errorf("it did not take its saved state over: %+v", ready)
	}
}

// G15 for a further host: the port that its first host has reached is blocked for it. Its ranks hear so at once, with
// both ends of the way.
func TestG15AHostWhoseWayIsBlocked(t *testing.T) {
	t.Parallel()
	run := spanned(t, nil)
	x := span(t, serveRun(t, filepath.Join(t.TempDir(), "run"), run, false), run)
	x.ways[1].lead("")
	err := end(t, "the trainer", x.live(false).over)
	bad := (*attachtest.Refusal)(nil)
	if !errors.As(err, &bad) || bad.Where != "coordinator" || bad.Value != x.how[1].Join.Address || !strings.Contains(bad.Problem, "cannot be reached") || !strings.Contains(bad.Problem, "(asked from 127.0.0.1 on interface lo)") {
		t.Errorf("the second host's rank hears %v", err)
	}
}

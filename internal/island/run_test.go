package island

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

const patience = 30 * time.Second

// script is a coordinator and syncer that does what the test says, with one island
// that runs in this process.
type script struct {
	t         testing.TB
	run       runfile.Run
	fragments []fragment.Fragment
	theta     [][]float32
	version   []uint64

	hellos   chan *wire.Hello
	messages chan transport.Up
	gone     chan error

	mu   sync.Mutex
	peer *transport.Peer

	firstHello *wire.Hello
	may        bool // the island may be gone before all is said

	link  *relay
	leave chan struct{}
	stdin *io.PipeWriter
	ended chan error
}

func (s *script) Hello(p *transport.Peer, hello *wire.Hello, _ *wire.Origin) {
	s.mu.Lock()
	s.peer = p
	s.mu.Unlock()
	s.hellos <- hello
}
func (s *script) Received(_ *transport.Peer, m transport.Up) {
	if m.GetProgress() == nil || m.GetProgress().Waiting != "" || m.GetProgress().Step > 0 {
		s.messages <- m
	}
}
func (s *script) Gone(_ *transport.Peer, err error) { s.gone <- err }

// play starts an island that joins the script, and waits until it is ready.
func play(t *testing.T, change func(*runfile.Run)) *script {
	t.Helper()
	s := start(t, change, nil)
	ready := expect(s, (*wire.FromLearner).GetReady)
	var want [][]byte
	for p, f := range s.fragments {
		want = append(want, f.Digests(s.theta[p])...)
	}
	if !slices.EqualFunc(ready.TensorDigest, want, slices.Equal[[]byte]) {
		t.Error("the island is ready with other bits than it was sent")
	}
	return s
}

// start starts an island that joins the script: an external one when it has a crew, which
// tells lost of a rank that is.
func start(t *testing.T, change func(*runfile.Run), crew func(lost func(error)) *attach.Crew) *script {
	t.Helper()
	run, _, dataDir := tiny(t, func(r *runfile.Run) {
		r.Islands = []runfile.Island{{Name: "x", Pace: 1}, {Name: "y", Pace: 1}}
		r.Exchange.Fragments = 2
		if change != nil {
			change(r)
		}
	})
	s := &script{
		t: t, run: run, fragments: fragment.Split(run.Table(), run.Exchange.Fragments),
		hellos: make(chan *wire.Hello, 8), messages: make(chan transport.Up, 1<<14), gone: make(chan error, 8),
		leave: make(chan struct{}), ended: make(chan error, 1),
	}
	params := make([]float32, run.Model.Size())
	engine.InitParams(run.Model.Config, run.Seed, params)
	for _, f := range s.fragments {
		value := make([]float32, f.Size)
		f.Gather(value, params)
		s.theta, s.version = append(s.theta, value), append(s.version, 0)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := transport.New(transport.Options{RunID: "r", Era: 1, Secret: "s"}, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(lis) //nolint:errcheck // it ends with Close
	}()
	s.link = newRelay(t, lis.Addr().String())
	join := wire.Join{Address: s.link.address, RunID: "r", Island: "x", Secret: "s", Era: 1, Incarnation: 3}
	stdin, parent := io.Pipe()
	s.stdin = parent
	ctx, cancel := context.WithCancelCause(context.Background())
	o := Options{Join: join, Version: "test", Leave: s.leave, ParentStdin: stdin, Logger: slog.New(slog.NewTextHandler(logTo{t}, nil))}
	if crew != nil {
		o.Crew, s.may = crew(cancel), true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ended <- Run(ctx, o)
	}()
	t.Cleanup(func() {
		cancel(nil)
		<-done
		parent.Close()
		s.link.close()
		server.Close()
		<-served
	})
	s.firstHello = s.hello()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Welcome{Welcome: &wire.Welcome{RunYaml: run.Marshal(), RunDir: t.TempDir(), DataDir: dataDir}}}, nil)
	s.seed()
	return s
}

type logTo struct{ t testing.TB }

func (w logTo) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (s *script) hello() *wire.Hello {
	s.t.Helper()
	select {
	case h := <-s.hellos:
		return h
	case <-time.After(patience):
		s.t.Fatal("no Hello came")
		return nil
	}
}

func (s *script) say(body *wire.ToLearner, payload []byte) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.peer.Send(transport.Down{ToLearner: body, Payload: payload}); err != nil && !s.may {
		s.t.Fatal(err)
	}
}

func (s *script) seed() {
	s.t.Helper()
	for p := range s.fragments {
		s.say(&wire.ToLearner{Body: &wire.ToLearner_Fragment{Fragment: &wire.Fragment{Fragment: uint32(p), Version: s.version[p]}}}, wire.AppendF32(nil, s.theta[p]))
	}
}

func (s *script) lease(position, from, to uint64) {
	s.t.Helper()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Lease{Lease: &wire.Lease{More: true, Position: position, Ranges: []*wire.Range{{From: from, To: to}}}}}, nil)
}

func (s *script) noMore() {
	s.t.Helper()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Lease{Lease: &wire.Lease{}}}, nil)
}

func (s *script) call(p uint32) {
	s.t.Helper()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Call{Call: &wire.Call{Fragment: p, Round: 1}}}, nil)
}

func (s *script) stop() {
	s.t.Helper()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Stop{Stop: &wire.Stop{}}}, nil)
}

// rule answers a contribution; merged means that the syncer took it as it is.
func (s *script) rule(m transport.Up, ruling wire.Ruling) {
	s.t.Helper()
	c := m.GetContribution()
	v := &wire.Verdict{Fragment: c.Fragment, Sequence: c.Sequence, Ruling: ruling, Reason: "the script says so"}
	var payload []byte
	if ruling == wire.Ruling_MERGED {
		theta := s.theta[c.Fragment]
		for i, d := range s.delta(m) {
			theta[i] -= d
		}
		s.version[c.Fragment]++
	}
	if ruling == wire.Ruling_MERGED || ruling == wire.Ruling_DROPPED {
		payload = wire.AppendF32(nil, s.theta[c.Fragment])
	}
	v.Version = s.version[c.Fragment]
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Verdict{Verdict: v}}, payload)
}

func (s *script) delta(m transport.Up) []float32 {
	s.t.Helper()
	delta := make([]float32, s.fragments[m.GetContribution().Fragment].Size)
	if err := wire.DecodeF32(delta, m.Payload); err != nil {
		s.t.Fatal(err)
	}
	return delta
}

// upTo gives the next message that is wanted and drops those before it.
func (s *script) upTo(what string, wanted func(transport.Up) bool) transport.Up {
	s.t.Helper()
	limit, ended := time.After(patience), s.ended
	for {
		select {
		case m := <-s.messages:
			if wanted(m) {
				return m
			}
		case err := <-ended: // what it said last may still be on its way
			s.ended <- err
			ended, limit = nil, time.After(patience/4)
		case <-limit:
			s.t.Fatalf("%s did not come within %v, ended: %v", what, patience, ended == nil)
		}
	}
}

func expect[M comparable](s *script, get func(*wire.FromLearner) M) M {
	s.t.Helper()
	var none M
	return get(s.upTo("a message", func(m transport.Up) bool { return get(m.FromLearner) != none }).FromLearner)
}

func (s *script) contribution() transport.Up {
	s.t.Helper()
	return s.upTo("a contribution", func(m transport.Up) bool { return m.GetContribution() != nil })
}

func (s *script) step(n uint64) *wire.Progress {
	s.t.Helper()
	return s.upTo("a step", func(m transport.Up) bool { return m.GetProgress().GetStep() >= n }).GetProgress()
}

func (s *script) end() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(patience):
		s.t.Fatal("the island did not end")
		return nil
	}
}

// The whole life of an island: it asks for samples, trains them, contributes when it
// is called, flushes when there is no more, says so, and ends when it is dismissed.
func TestLifeOfAnIsland(t *testing.T) {
	s := play(t, nil)
	expect(s, (*wire.FromLearner).GetLeaseRequest)
	s.lease(0, 0, 20)
	s.step(5)
	expect(s, (*wire.FromLearner).GetLeaseRequest)
	s.call(1)
	c := s.contribution()
	if m := c.GetContribution(); m.Fragment != 1 || m.Sequence != 1 || m.FromPosition != 0 || m.ToPosition != 20 || m.Tokens != 320 || m.Flush {
		t.Errorf("%v", m)
	}
	s.rule(c, wire.Ruling_MERGED)
	s.lease(20, 20, 40)
	s.step(10)
	expect(s, (*wire.FromLearner).GetLeaseRequest)
	s.noMore()
	flushed := map[uint32]uint64{}
	for len(flushed) < 2 {
		c := s.contribution()
		flushed[c.GetContribution().Fragment] = c.GetContribution().ToPosition
		if !c.GetContribution().Flush {
			t.Error("it does not say that it flushes")
		}
		s.rule(c, wire.Ruling_MERGED)
	}
	if idle := expect(s, (*wire.FromLearner).GetIdle); idle.Position != 40 || flushed[0] != 40 || flushed[1] != 40 {
		t.Errorf("idle at %d, flushed up to %v", idle.Position, flushed)
	}
	s.call(0) // nothing was trained since
	if pass := expect(s, (*wire.FromLearner).GetPass); pass.Fragment != 0 {
		t.Errorf("%v", pass)
	}
	s.lease(40, 80, 84) // there is work again: a death has handed it back
	s.step(11)
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// Danger: a stream breaks, and with it goes a contribution, its verdict or a lease.
// The island dials again as the same process, sends again unchanged what has no
// verdict, and asks again for samples; it trains on meanwhile (L1).
func TestBrokenStream(t *testing.T) {
	s := play(t, nil)
	s.lease(0, 0, 4000)
	s.step(1)
	s.call(0)
	first := s.contribution()
	s.link.cut()
	back := s.hello()
	if !back.Reconnect || back.Pid != uint64(os.Getpid()) || back.Island != "x" {
		t.Errorf("it comes back as %v", back)
	}
	again := s.contribution()
	if !slices.Equal(again.Payload, first.Payload) || again.GetContribution().Sequence != 1 ||
		again.GetContribution().ToPosition != first.GetContribution().ToPosition {
		t.Error("it was sent again in another form")
	}
	s.lease(0, 0, 4000) // what it had already
	s.rule(again, wire.Ruling_MERGED)
	s.rule(first, wire.Ruling_MERGED) // the same answer once more does no harm
	s.call(0)
	next := s.contribution().GetContribution()
	if next.Sequence != 2 || next.FromPosition != first.GetContribution().ToPosition || next.BaseVersion != 1 {
		t.Errorf("%v", next)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// A coordinator that closes the incarnation is not asked again: a process that wakes
// up after its replacement ends.
func TestClosedIncarnationEnds(t *testing.T) {
	s := play(t, nil)
	s.lease(0, 0, 4000)
	s.step(1)
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Rejected{Rejected: &wire.Rejected{Reason: "closed"}}}, nil)
	s.mu.Lock()
	s.peer.Close("incarnation 3 is closed")
	s.mu.Unlock()
	if err := s.end(); !errors.Is(err, ErrExpelled) || !strings.Contains(err.Error(), "incarnation 3 is closed") {
		t.Errorf("%v", err)
	}
}

// The end of stdin is the death of the parent.
func TestParentDies(t *testing.T) {
	s := play(t, nil)
	s.lease(0, 0, 400_000)
	s.step(1)
	s.stdin.Close()
	if err := s.end(); err == nil || !strings.Contains(err.Error(), "the parent process is gone") {
		t.Errorf("%v", err)
	}
}

// Leaving: it finishes its step, flushes every fragment, waits for the verdicts, and
// says that it leaves.
func TestLeaving(t *testing.T) {
	s := play(t, nil)
	s.lease(0, 0, 4000)
	s.step(3)
	close(s.leave)
	for range s.fragments {
		c := s.contribution()
		if !c.GetContribution().Flush {
			t.Error("no flush")
		}
		s.rule(c, wire.Ruling_MERGED)
	}
	expect(s, (*wire.FromLearner).GetLeaving)
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// B1, the island's side: weights that went NaN are contributed and refused; the island
// takes the seed, starts its moments anew, and its next contribution is finite.
func TestB1RefusedAndReseeded(t *testing.T) {
	s := play(t, nil)
	good := slices.Clone(s.theta[0])
	for i := range s.theta[0] {
		s.theta[0][i] = float32(math.NaN())
	}
	s.seed() // poison, the only way in
	s.lease(0, 0, 4000)
	s.upTo("a step that was not applied", func(m transport.Up) bool { return m.GetProgress().GetSkippedSteps() > 0 })
	s.call(0)
	refused := s.contribution()
	s.theta[0] = good
	s.rule(refused, wire.Ruling_REFUSED)
	s.seed()
	s.upTo("a step that is finite", func(m transport.Up) bool {
		return m.GetProgress() != nil && !math.IsNaN(m.GetProgress().Loss) && m.GetProgress().GetSkippedSteps() > 0
	})
	s.call(0)
	c := s.contribution()
	for _, d := range s.delta(c) {
		if math.IsNaN(float64(d)) {
			t.Fatal("NaN again")
		}
	}
	if m := c.GetContribution(); m.FromPosition < refused.GetContribution().ToPosition || m.Sequence != 2 {
		t.Errorf("%v after %v", m, refused.GetContribution())
	}
}

// A verdict that is damaged on its way is asked for again; one that says so is obeyed.
func TestResend(t *testing.T) {
	s := play(t, nil)
	s.lease(0, 0, 4000)
	s.step(1)
	s.call(0)
	first := s.contribution()
	s.rule(first, wire.Ruling_RESEND)
	again := s.contribution()
	if !slices.Equal(again.Payload, first.Payload) || again.GetContribution().Sequence != 1 {
		t.Error("sent again in another form")
	}
	s.rule(again, wire.Ruling_DROPPED)
	s.call(0)
	if c := s.contribution().GetContribution(); c.Sequence != 2 || c.FromPosition != first.GetContribution().ToPosition {
		t.Errorf("after a drop: %v", c)
	}
}

// Strict mode waits for the verdict exactly OverlapSteps after it sent, and says so.
func TestStrictAdoption(t *testing.T) {
	strict := true
	s := play(t, func(r *runfile.Run) { r.Exchange.Strict, r.Exchange.OverlapSteps = &strict, 3 })
	s.lease(0, 0, 4000)
	s.step(1)
	s.call(1)
	c := s.contribution()
	at := c.GetContribution().ToStep
	waiting := s.upTo("the wait", func(m transport.Up) bool { return m.GetProgress().GetWaiting() != "" && m.GetProgress().GetStep() > 0 }).GetProgress()
	if waiting.Step != at+3 || waiting.Waiting != "a verdict" {
		t.Errorf("sent at step %d, %q at step %d", at, waiting.Waiting, waiting.Step)
	}
	s.rule(c, wire.Ruling_MERGED)
	if p := s.step(at + 4); p.Waiting != "" {
		t.Errorf("%v", p)
	}
	s.call(1)
	if a := s.contribution().GetContribution().Adoptions; len(a) != 1 || a[0].Fragment != 1 || a[0].Version != 1 || a[0].Step != at+3 {
		t.Errorf("adoptions %v", a)
	}
}

// Danger: an island waits, goes on, hangs in its next step, and its heartbeats still
// say that it waits, so that nobody looks for a step. Once it has samples the
// heartbeats say nothing of waiting.
func TestHeartbeatsOfAStepDoNotWait(t *testing.T) {
	r := &runner{beat: &beat{last: &wire.Progress{Step: 7, Waiting: "samples"}}}
	before := r.beat.last
	r.resumed()
	if r.beat.last.Waiting != "" || r.beat.last.Step != 7 {
		t.Errorf("%v", r.beat.last)
	}
	if before.Waiting == "" {
		t.Error("a message that may be on its way was altered")
	}
}

// Its own state is saved between steps when it is asked for, under the name it is
// given, and training goes on.
func TestCaptureOnRequest(t *testing.T) {
	s := play(t, nil)
	s.lease(0, 0, 4000)
	s.step(2)
	s.call(0)
	c := s.contribution()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Capture{Capture: &wire.Capture{Checkpoint: 4, Object: "checkpoints/00000004/islands/x.safetensors"}}}, nil)
	s.step(c.GetContribution().ToStep + 2)
	s.rule(c, wire.Ruling_MERGED) // not before nothing is under way
	done := expect(s, (*wire.FromLearner).GetCaptured)
	if done.Checkpoint != 4 || done.Reason != "" || done.Position < c.GetContribution().ToPosition+8 || !slices.Equal(done.AnchorVersions, []uint64{1, 0}) {
		t.Errorf("%v", done)
	}
	stored := expect(s, (*wire.FromLearner).GetStored)
	if stored.Checkpoint != 4 || stored.Object == "" || stored.SizeBytes == 0 || len(stored.Digest) != 64 || stored.Reason != "" {
		t.Errorf("%v", stored)
	}
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Capture{Capture: &wire.Capture{Checkpoint: 5, Object: "../x"}}}, nil)
	if failed := expect(s, (*wire.FromLearner).GetStored); failed.Object != "" || failed.Reason == "" {
		t.Errorf("a name outside the store: %v", failed)
	}
}

// The danger: an island has used up its samples before the step at which it would adopt, gets no
// more, for the exchange rests until its state is captured, and is waited for until the checkpoint
// goes without it. What it cannot put off any longer it adopts at once.
func TestCaptureWithoutFurtherSamples(t *testing.T) {
	strict := false
	s := play(t, func(r *runfile.Run) { r.Exchange.Strict, r.Exchange.OverlapSteps = &strict, 3 })
	s.lease(0, 0, 8) // two steps
	s.upTo("the wait", func(m transport.Up) bool {
		return m.GetProgress().GetStep() == 2 && m.GetProgress().GetWaiting() == "samples"
	})
	s.call(0)
	c := s.contribution()
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Capture{Capture: &wire.Capture{Checkpoint: 4, Object: "checkpoints/00000004/islands/x.safetensors"}}}, nil)
	s.rule(c, wire.Ruling_MERGED)
	if done := expect(s, (*wire.FromLearner).GetCaptured); done.Reason != "" || done.Position != 8 || !slices.Equal(done.AnchorVersions, []uint64{1, 0}) {
		t.Errorf("%v", done)
	}
	s.lease(8, 8, 4000)
	s.step(4)
}

// relay passes bytes between an island and its coordinator, and can cut them off.
type relay struct {
	address string
	lis     net.Listener
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   []net.Conn
}

func newRelay(t testing.TB, server string) *relay {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: lis.Addr().String(), lis: lis}
	r.wg.Go(func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			r.wg.Go(func() { pass(in, out) })
			r.wg.Go(func() { pass(out, in) })
		}
	})
	return r
}

func pass(to, from net.Conn) {
	io.Copy(to, from) //nolint:errcheck // any end is the end
	to.Close()
	from.Close()
}

// cut breaks every connection.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func (r *relay) close() {
	r.lis.Close()
	r.cut()
	r.wg.Wait()
}

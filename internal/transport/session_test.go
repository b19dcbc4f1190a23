package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/wire"
)

// noise gives payloads that differ from each other.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b) // never fails
	return b
}

// payloadBytes draws sizes around the borders of chunks; most are small.
func payloadBytes() *rapid.Generator[int] {
	small := rapid.IntRange(0, 8<<10)
	border := rapid.SampledFrom([]int{ChunkBytes - 1, ChunkBytes, ChunkBytes + 1, 2*ChunkBytes + 17})
	return rapid.OneOf(small, small, small, border)
}

// Whatever is sent arrives whole and in order, both directions at once.
func TestMessagesArriveWholeAndInOrder(t *testing.T) {
	r, p, c := pair(t, Options{}, Dialer{})
	bytesOf := noise(1, 4*ChunkBytes)
	rapid.Check(t, func(t *rapid.T) {
		var payloads [][]byte // each a cut of bytesOf at another place
		for i, n := range rapid.SliceOfN(payloadBytes(), 1, 8).Draw(t, "sizes") {
			payloads = append(payloads, bytesOf[i:i+n])
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for i, payload := range payloads {
			if err := c.Send(upN(uint64(i), payload)); err != nil {
				t.Fatal(err)
			}
			if err := p.Send(downN(uint64(i), payload)); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range payloads {
			up := (<-r.events).up
			if up.GetIdle().GetPosition() != uint64(i) || !bytes.Equal(up.Payload, want) || up.Damaged {
				t.Fatalf("up %d: got %v with %d bytes (damaged: %v), want %d bytes", i, up.FromLearner, len(up.Payload), up.Damaged, len(want))
			}
			down, err := c.Recv(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if down.GetCapture().GetCheckpoint() != uint64(i) || !bytes.Equal(down.Payload, want) || down.Damaged {
				t.Fatalf("down %d: got %v with %d bytes (damaged: %v), want %d bytes", i, down.ToLearner, len(down.Payload), down.Damaged, len(want))
			}
		}
	})
}

func TestOriginStandsOnEveryMessage(t *testing.T) {
	r, _, j := serve(t, Options{View: 5})
	c := dial(t, Dialer{}, j)
	e := r.wantHello(t)
	want := &wire.Origin{Protocol: wire.Protocol, RunId: runID, Era: 4, Incarnation: 9}
	if !proto.Equal(e.origin, want) || e.hello.Island != "fast" || e.hello.Secret != secret {
		t.Errorf("hello %v of %v, want %v", e.hello, e.origin, want)
	}
	if err := e.peer.Send(downN(1, nil)); err != nil {
		t.Fatal(err)
	}
	down, err := c.Recv(withPatience(t))
	want.View = 5 // which the learner did not know when it said hello
	if err != nil || !proto.Equal(down.Origin, want) {
		t.Errorf("got %v, %v; want %v", down.ToLearner, err, want)
	}
	if err := c.Send(upN(1, nil)); err != nil {
		t.Fatal(err)
	}
	if got := r.next(t).up; !proto.Equal(got.Origin, want) {
		t.Errorf("got %v, want the view it heard of: %v", got.Origin, want)
	}
	own := &wire.Origin{Protocol: wire.Protocol, RunId: runID, Era: 3, Incarnation: 8, View: 2}
	m := upN(2, nil)
	m.Origin = own
	if err := c.Send(m); err != nil {
		t.Fatal(err)
	}
	if got := r.next(t).up; !proto.Equal(got.Origin, own) {
		t.Errorf("got %v, want the sender's %v", got.Origin, own)
	}
}

// The same message to many peers: Send must not write into it.
func TestSendLeavesTheMessageAlone(t *testing.T) {
	r, _, j := serve(t, Options{})
	m := downN(7, noise(1, 100))
	for range 3 {
		c := dial(t, Dialer{}, j)
		if err := r.wantHello(t).peer.Send(m); err != nil {
			t.Fatal(err)
		}
		got, err := c.Recv(withPatience(t))
		if err != nil || got.GetCapture().GetCheckpoint() != 7 || !bytes.Equal(got.Payload, m.Payload) {
			t.Fatalf("got %v, %v", got.ToLearner, err)
		}
	}
	if m.Origin != nil || m.PayloadBytes != 0 || m.PayloadDigest != nil {
		t.Errorf("message was changed: %v", m.ToLearner)
	}
}

func TestDamagedPayloadIsFlagged(t *testing.T) {
	r, p, c := pair(t, Options{}, Dialer{})
	up := upN(1, noise(1, 3*ChunkBytes))
	up.PayloadDigest = wire.Digest([]byte("something else"))
	if err := c.Send(up); err != nil {
		t.Fatal(err)
	}
	if e := r.next(t); !e.up.Damaged || len(e.up.Payload) != 3*ChunkBytes {
		t.Errorf("damaged %v, %d bytes", e.up.Damaged, len(e.up.Payload))
	}
	down := downN(1, []byte("x"))
	down.PayloadDigest = up.PayloadDigest
	if err := p.Send(down); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Recv(withPatience(t)); err != nil || !m.Damaged {
		t.Errorf("damaged %v, %v", m.Damaged, err)
	}
	if err := c.Send(upN(2, []byte("whole"))); err != nil {
		t.Fatal(err)
	}
	if e := r.next(t); e.up.Damaged || e.up.GetIdle().GetPosition() != 2 {
		t.Errorf("the next message: %+v", e.up)
	}
}

func TestRefusedBeforeTheHandler(t *testing.T) {
	r, _, j := serve(t, Options{})
	cases := []struct {
		name   string
		change func(*wire.FromLearner)
		want   []string
	}{
		{"protocol", func(m *wire.FromLearner) { m.Origin.Protocol = 77 }, []string{"protocol 77", fmt.Sprint("coordinator ", wire.Protocol)}},
		{"no origin", func(m *wire.FromLearner) { m.Origin = nil }, []string{"protocol 0", fmt.Sprint("coordinator ", wire.Protocol)}},
		{"run", func(m *wire.FromLearner) { m.Origin.RunId = "other" }, []string{`"other"`, `"r7f3"`}},
		{"secret", func(m *wire.FromLearner) { m.GetHello().Secret = "guess" }, []string{"secret", "5 characters", `"r7f3"`}},
		{"no secret", func(m *wire.FromLearner) { m.GetHello().Secret = "" }, []string{"secret", "0 characters"}},
		{"not hello", func(m *wire.FromLearner) { *m = wire.FromLearner{Origin: m.Origin, Body: upN(1, nil).Body} }, []string{"must be hello"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			stream := rawSession(t, j.Address)
			m := &wire.FromLearner{
				Origin: &wire.Origin{Protocol: wire.Protocol, RunId: runID},
				Body:   &wire.FromLearner_Hello{Hello: &wire.Hello{Secret: secret}},
			}
			c.change(m)
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
			got, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			reason := got.GetRejected().GetReason()
			for _, part := range c.want {
				if !strings.Contains(reason, part) {
					t.Errorf("%q does not hold %q", reason, part)
				}
			}
			if strings.Contains(reason, secret) || got.GetRejected().GetRetry() {
				t.Errorf("rejected with %v", got.GetRejected())
			}
			if _, err := stream.Recv(); err == nil {
				t.Error("the session went on")
			}
		})
	}
	select {
	case e := <-r.events:
		t.Errorf("the handler was called: %+v", e)
	default:
	}
}

// The danger: somebody without a pass has the coordinator take gigabytes before it asks who that is.
func TestWhoHasNotShownAPassSendsNoPayload(t *testing.T) {
	_, _, j := serve(t, Options{})
	stream, m := rawSession(t, j.Address), helloFrame()
	m.GetHello().Secret, m.PayloadBytes, m.PayloadDigest = "guess", ChunkBytes, wire.Digest(nil)
	if err := stream.Send(m); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "at most 0 are taken") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRefusalReachesTheLearner(t *testing.T) {
	_, _, j := serve(t, Options{})
	j.RunID = "r0ld"
	c := dial(t, Dialer{}, j)
	m, err := c.Recv(withPatience(t))
	if err != nil || !strings.Contains(m.GetRejected().GetReason(), `"r0ld"`) {
		t.Fatalf("got %v, %v", m.ToLearner, err)
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), `"r7f3"`) {
		t.Errorf("then %v", err)
	}
	if err := c.Send(upN(1, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("send: %v", err)
	}
}

func TestOnlySoManyPeers(t *testing.T) {
	r, _, j := serve(t, Options{MaxPeers: 1})
	first := dial(t, Dialer{}, j)
	r.wantHello(t)
	m, err := dial(t, Dialer{}, j).Recv(withPatience(t))
	if err != nil || !m.GetRejected().GetRetry() || !strings.Contains(m.GetRejected().GetReason(), "1 peers") {
		t.Fatalf("got %v, %v", m.ToLearner, err)
	}
	go first.Close()
	r.wantGone(t)
	<-first.read // the session is released before the client sees its end
	dial(t, Dialer{}, j)
	r.wantHello(t)
}

func TestReconnect(t *testing.T) {
	r, _, j := serve(t, Options{})
	c := dial(t, Dialer{}, j)
	r.wantHello(t)
	c.cancel() // as if the stream broke
	if e := r.wantGone(t); !errors.Is(e.err, ErrLost) {
		t.Errorf("gone: %v, want ErrLost", e.err)
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrLost) {
		t.Errorf("recv: %v, want ErrLost", err)
	}
	again, err := Dial(withPatience(t), j, &wire.Hello{Reconnect: true, Pid: 12})
	if err != nil {
		t.Fatal(err)
	}
	if e := r.wantHello(t); !e.hello.Reconnect || e.hello.Pid != 12 || e.hello.Island != "fast" {
		t.Errorf("hello %v", e.hello)
	}
	go func() { r.wantGone(t) }()
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestClientCloseFlushes(t *testing.T) {
	r, _, c := pair(t, Options{}, Dialer{})
	const n = 40
	for i := range uint64(n) {
		if err := c.Send(upN(i, noise(i, 300<<10))); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	for i := range uint64(n) {
		if e := r.next(t); e.up.GetIdle().GetPosition() != i || e.up.Damaged || len(e.up.Payload) != 300<<10 {
			t.Fatalf("message %d: %+v", i, e)
		}
	}
	if e := r.next(t); !e.gone || e.err != nil {
		t.Errorf("then %+v, want Gone without an error", e)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := c.Send(upN(n, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
}

func TestServerCloseFlushes(t *testing.T) {
	r, s, j := serve(t, Options{})
	c := dial(t, Dialer{}, j)
	p := r.wantHello(t).peer
	const n = 40
	for i := range uint64(n) {
		if err := p.Send(downN(i, noise(i, 300<<10))); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	for i := range uint64(n) {
		m, err := c.Recv(withPatience(t))
		if err != nil || m.GetCapture().GetCheckpoint() != i || m.Damaged {
			t.Fatalf("message %d: %v, %v", i, m.ToLearner, err)
		}
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "coordinator is closing") || strings.Count(err.Error(), "session closed") != 1 {
		t.Errorf("then %v", err)
	}
	if e := r.wantGone(t); !errors.Is(e.err, ErrClosed) {
		t.Errorf("gone: %v", e.err)
	}
	<-closed
	if err := p.Send(downN(n, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	if _, err := Dial(withPatience(t), j, nil); !errors.Is(err, ErrLost) {
		t.Errorf("dial after close: %v", err)
	}
}

func TestPeerCloseTellsTheReason(t *testing.T) {
	r, p, c := pair(t, Options{}, Dialer{})
	if err := p.Send(downN(1, []byte("last"))); err != nil {
		t.Fatal(err)
	}
	p.Close("incarnation 9 is closed")
	p.Close("a second call does not count")
	if m, err := c.Recv(withPatience(t)); err != nil || string(m.Payload) != "last" {
		t.Errorf("got %v, %v", m.ToLearner, err)
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "incarnation 9 is closed") {
		t.Errorf("then %v", err)
	}
	if e := r.wantGone(t); !errors.Is(e.err, ErrClosed) || !strings.Contains(e.err.Error(), "incarnation 9") {
		t.Errorf("gone: %v", e.err)
	}
	if err := c.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("close: %v", err)
	}
}

// The client ends its half while the server still has something to say: the
// session ends in order, and Recv gives io.EOF afterwards.
func TestRecvAfterTheEnd(t *testing.T) {
	r, _, c := pair(t, Options{}, Dialer{})
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	if e := r.wantGone(t); e.err != nil {
		t.Error(e.err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := c.Recv(withPatience(t)); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
}

func TestRecvHonoursItsContextAndLosesNothing(t *testing.T) {
	_, p, c := pair(t, Options{}, Dialer{})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Recv(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for i := range uint64(3) {
		if err := p.Send(downN(i, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(3) {
		m, err := c.Recv(gone) // now and then the message wins
		if err != nil {
			m, err = c.Recv(withPatience(t))
		}
		if err != nil || m.GetCapture().GetCheckpoint() != i {
			t.Fatalf("message %d: %v, %v", i, m.ToLearner, err)
		}
	}
}

func TestDialErrors(t *testing.T) {
	_, s, j := serve(t, Options{})
	s.Close()
	if _, err := Dial(withPatience(t), j, nil); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), j.Address) || strings.Contains(err.Error(), ErrLost.Error()) { // it says why
		t.Errorf("nobody listens: %v", err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dial(gone, j, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Identify(withPatience(t), j); !errors.Is(err, ErrLost) {
		t.Errorf("identify: %v", err)
	}
}

func TestIdentify(t *testing.T) {
	_, _, j := serve(t, Options{})
	id, err := Identify(withPatience(t), j)
	if err != nil {
		t.Fatal(err)
	}
	if want := (&wire.Identity{Protocol: wire.Protocol, RunId: runID, Era: 4}); !proto.Equal(id, want) {
		t.Errorf("got %v, want %v", id, want)
	}
}

func TestMessagesThatCannotBeSent(t *testing.T) {
	_, p, c := pair(t, Options{}, Dialer{})
	if err := c.Send(Up{FromLearner: &wire.FromLearner{}}); err == nil || !strings.Contains(err.Error(), "without a body") {
		t.Errorf("up without a body: %v", err)
	}
	if err := p.Send(Down{}); err == nil || !strings.Contains(err.Error(), "without a body") {
		t.Errorf("down without a body: %v", err)
	}
	big := &wire.ToLearner_Stop{Stop: &wire.Stop{Reason: strings.Repeat("x", MaxFrameBytes)}}
	if err := p.Send(Down{ToLearner: &wire.ToLearner{Body: big}}); err == nil || !strings.Contains(err.Error(), "put it into the payload") {
		t.Errorf("too long for a frame: %v", err)
	}
	if err := p.Send(downN(1, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(withPatience(t)); err != nil {
		t.Errorf("the session did not outlive them: %v", err)
	}
}

// The danger: a payload that takes minutes on its way looks like silence on both sides.
func TestPayloadsAreToldAsTheyMove(t *testing.T) {
	came, went := new(atomic.Int64), new(atomic.Int64)
	r, p, c := pair(t, Options{Moved: func(p *Peer, up bool) {
		if p.Incarnation() != 9 {
			t.Errorf("of incarnation %d", p.Incarnation())
		}
		if up {
			came.Add(1)
		} else {
			went.Add(1)
		}
	}}, Dialer{})
	payload := make([]byte, 2*ChunkBytes+1)
	if err := c.Send(upN(1, nil)); err != nil { // what has no payload moves nothing
		t.Fatal(err)
	}
	r.next(t)
	if came.Load() != 0 || c.Moved() != 0 {
		t.Errorf("%d and %d", came.Load(), c.Moved())
	}
	if err := c.Send(upN(2, payload)); err != nil {
		t.Fatal(err)
	}
	if r.next(t); came.Load() != 3 {
		t.Errorf("%d chunks came", came.Load())
	}
	if err := p.Send(downN(3, payload)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(withPatience(t)); err != nil || c.Moved() != 6 {
		t.Errorf("%v, %d chunks moved", err, c.Moved())
	}
	if err := p.Send(downN(4, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(withPatience(t)); err != nil || went.Load() != 3 { // the writer has told of all before
		t.Errorf("%v, %d chunks went", err, went.Load())
	}
}

package transport

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mistura-project/mistura/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; nothing that works comes near it.
const patience = 20 * time.Second

// event is one call of a Handler.
type event struct {
	peer   *Peer
	hello  *wire.Hello
	origin *wire.Origin
	up     Up
	gone   bool
	err    error
}

// recorder is a Handler that hands its calls to the test, one at a time: a peer
// whose event nobody takes waits.
type recorder struct {
	events chan event
	quit   chan struct{} // the test is over: events are dropped
}

var _ Handler = (*recorder)(nil)

func (r *recorder) put(e event) {
	select {
	case r.events <- e:
	case <-r.quit:
	}
}

func (r *recorder) Hello(p *Peer, hello *wire.Hello, origin *wire.Origin) {
	r.put(event{peer: p, hello: hello, origin: origin})
}
func (r *recorder) Received(p *Peer, m Up)  { r.put(event{peer: p, up: m}) }
func (r *recorder) Gone(p *Peer, err error) { r.put(event{peer: p, gone: true, err: err}) }

func (r *recorder) next(t testing.TB) event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(patience):
		t.Fatal("the handler was not called")
		panic("unreachable")
	}
}

// wantHello takes the next event, which must be Hello.
func (r *recorder) wantHello(t testing.TB) event {
	t.Helper()
	e := r.next(t)
	if e.hello == nil {
		t.Fatalf("want hello, got %+v", e)
	}
	return e
}

// wantGone reads events until Gone.
func (r *recorder) wantGone(t testing.TB) event {
	t.Helper()
	for {
		if e := r.next(t); e.gone {
			return e
		}
	}
}

const (
	runID  = "r7f3"
	secret = "correct horse"
)

// serve starts a server on loopback; the end of the test ends it.
func serve(t testing.TB, o Options) (*recorder, *Server, wire.Join) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.RunID, o.Secret, o.Era = runID, secret, 4
	r := &recorder{events: make(chan event), quit: make(chan struct{})}
	s := New(o, r)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() {
		close(r.quit)
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, s, wire.Join{Address: lis.Addr().String(), RunID: runID, Era: 4, Island: "fast", Incarnation: 9, Secret: secret}
}

func withPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial opens a session; the end of the test cuts it when it is still there.
func dial(t testing.TB, d Dialer, j wire.Join) *Conn {
	t.Helper()
	c, err := d.Dial(withPatience(t), j, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.cancel()
		c.Close() // cut
	})
	return c
}

// pair is a server with one peer that has said hello.
func pair(t testing.TB, o Options, d Dialer) (*recorder, *Peer, *Conn) {
	t.Helper()
	r, _, j := serve(t, o)
	c := dial(t, d, j)
	return r, r.wantHello(t).peer, c
}

// Messages that carry a number.

func upN(n uint64, payload []byte) Up {
	body := &wire.FromLearner_Idle{Idle: &wire.Idle{Position: n}}
	return Up{FromLearner: &wire.FromLearner{Body: body}, Payload: payload}
}

func downN(n uint64, payload []byte) Down {
	body := &wire.ToLearner_Capture{Capture: &wire.Capture{Checkpoint: n}}
	return Down{ToLearner: &wire.ToLearner{Body: body}, Payload: payload}
}

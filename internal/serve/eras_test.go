package serve

import (
	"net"
	"testing"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// visitors is a server that keeps whoever comes.
type visitors struct {
	at   wire.Join
	came chan *transport.Peer
}

func (v *visitors) Hello(p *transport.Peer, _ *wire.Hello, _ *wire.Origin) { v.came <- p }
func (v *visitors) Received(*transport.Peer, transport.Up)                 {}
func (v *visitors) Gone(*transport.Peer, error)                            {}

func receive(t *testing.T) *visitors {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &visitors{wire.Join{Address: lis.Addr().String(), RunID: "r", Era: 1, Incarnation: 1, Secret: "s"}, make(chan *transport.Peer)}
	server, done := transport.New(transport.Options{RunID: "r", Era: 1, View: 1, Secret: "s"}, v), make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return v
}

// visit opens a session; the end of the test ends it.
func (v *visitors) visit(t *testing.T) (*transport.Conn, *transport.Peer) {
	t.Helper()
	c, err := transport.Dial(t.Context(), v.at, &wire.Hello{Pid: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) //nolint:errcheck // the other side has ended it
	return c, <-v.came
}

// toldToReturn: the session ends with the word that the same may come again.
func toldToReturn(t *testing.T, who string, c *transport.Conn) {
	t.Helper()
	m, err := c.Recv(t.Context())
	if err != nil || !m.GetRejected().GetRetry() || m.GetRejected().GetReason() == "" {
		t.Errorf("%s hears %v, %v", who, m.ToLearner, err)
	}
}

// Danger: islands that were asked to come again after a rollback are faster than the next era. The
// one that is over lets them wait, and then expels them for good.
func TestWhoComesBetweenTwoErasMayComeAgain(t *testing.T) {
	v := receive(t)
	h := &host{ended: make(chan struct{}), crew: newCrew(), arrivals: arrivals{waiting: map[uint64]arrival{}}, parties: newParties(nil, nil)}
	asked, p := v.visit(t)
	h.arrivals.add(arrival{peer: p})
	if h.late(p) {
		t.Error("it is late while the era goes on")
	}
	h.result = &coord.Done{Outcome: coord.RolledBack, Why: "spikes"}
	close(h.ended)
	h.callBack()
	toldToReturn(t, "who waits for an answer", asked)
	after, p := v.visit(t)
	if !h.late(p) {
		t.Error("somebody is let into an era that is over")
	}
	toldToReturn(t, "who comes then", after)
	h.result.Outcome = coord.Finished
	if h.late(p) {
		t.Error("a run that is over asks to come again")
	}
}

// Danger: an island over several hosts is called back, and only the first host hears that it may
// come again: the trainer's other ranks end for good.
func TestAllHostsAreCalledBack(t *testing.T) {
	v := receive(t)
	h := &host{crew: newCrew(), parties: newParties(nil, nil)}
	first, p := v.visit(t)
	second, q := v.visit(t)
	h.crew.peers[1], h.parties.of[1] = p, &party{hosts: []partner{{peer: p}, {peer: q}}}
	h.expel(1, "its stream broke", true)
	toldToReturn(t, "the first host", first)
	toldToReturn(t, "the second host", second)
}

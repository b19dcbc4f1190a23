package transport

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/mistura-project/mistura/internal/wire"
)

// A window that fills soon, and more bytes than fit into it, the sockets'
// buffers of both sides (some megabytes on loopback) and a message read ahead.
const (
	window = 64 << 10
	unread = 16 << 20
)

// A learner that does not read must not make the coordinator's memory grow: its
// queue has an end, and reaching it ends the session.
func TestPeerThatDoesNotKeepUpIsClosed(t *testing.T) {
	const limit = 8 << 20
	r, p, c := pair(t, Options{MaxQueuedBytes: limit}, Dialer{WindowBytes: window})
	payload := noise(1, 1<<20)
	var queued int64
	var err error
	for err == nil && queued < 100<<20 {
		if err = p.Send(downN(1, payload)); err == nil {
			queued += int64(len(payload))
		}
	}
	if !errors.Is(err, ErrQueueFull) {
		t.Fatalf("%d bytes queued, then %v", queued, err)
	}
	// What left the queue sits in the windows of flow control and in the client's Recv.
	if most := int64(limit + unread); queued > most {
		t.Errorf("%d bytes were taken, want at most %d", queued, most)
	}
	if e := r.wantGone(t); !errors.Is(e.err, ErrQueueFull) {
		t.Errorf("gone: %v", e.err)
	}
	if err := p.Send(downN(2, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("send afterwards: %v", err)
	}
	for {
		if _, err := c.Recv(withPatience(t)); err != nil {
			if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "send queue full") {
				t.Errorf("the learner was told %v", err)
			}
			return
		}
	}
}

func TestPeerThatStopsReadingIsClosed(t *testing.T) {
	r, p, _ := pair(t, Options{StallTimeout: 400 * time.Millisecond}, Dialer{WindowBytes: window})
	sendTwice(t, p)
	if e := r.wantGone(t); !errors.Is(e.err, ErrStalled) {
		t.Errorf("gone: %v", e.err)
	}
}

func TestPeerThatIsSlowToFlushIsCut(t *testing.T) {
	r, p, _ := pair(t, Options{FlushTimeout: 50 * time.Millisecond}, Dialer{WindowBytes: window})
	sendTwice(t, p)
	p.Close("enough")
	if e := r.wantGone(t); !errors.Is(e.err, ErrClosed) || !strings.Contains(e.err.Error(), "enough") {
		t.Errorf("gone: %v", e.err)
	}
}

// sendTwice sends more than a client takes in unread: one message and the window.
func sendTwice(t *testing.T, p *Peer) {
	t.Helper()
	payload := noise(1, unread)
	for range 2 {
		if err := p.Send(downN(1, payload)); err != nil {
			t.Fatal(err)
		}
	}
}

// A flooding learner is stopped by flow control while the handler is busy: what
// it sent and nobody took stays in its own queue, whose end it is told of.
func TestFloodStaysWithTheSender(t *testing.T) {
	const limit = 8 << 20
	r, _, c := pair(t, Options{WindowBytes: window}, Dialer{MaxQueuedBytes: limit})
	payload := noise(1, 256<<10)
	sent := 0
	var err error
	for err == nil && sent < 1000 {
		if err = c.Send(upN(uint64(sent), payload)); err == nil {
			sent++
		}
	}
	if !errors.Is(err, ErrQueueFull) {
		t.Fatalf("%d messages sent, then %v", sent, err)
	}
	if most := (limit + unread) / len(payload); sent > most {
		t.Errorf("%d messages were taken, want at most %d", sent, most)
	}
	for i := range sent { // nothing was lost and the session goes on
		if e := r.next(t); e.up.GetIdle().GetPosition() != uint64(i) {
			t.Fatalf("message %d: %+v", i, e)
		}
	}
}

func TestClientSeesAStalledServer(t *testing.T) {
	_, _, c := pair(t, Options{WindowBytes: window}, Dialer{StallTimeout: 400 * time.Millisecond})
	payload := noise(1, unread)
	for range 2 { // the first is handed to the handler, which does not take it
		if err := c.Send(upN(1, payload)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrStalled) {
		t.Errorf("recv: %v", err)
	}
	if err := c.Close(); !errors.Is(err, ErrStalled) {
		t.Errorf("close: %v", err)
	}
}

func TestClientCloseHasADeadline(t *testing.T) {
	_, _, c := pair(t, Options{}, Dialer{FlushTimeout: 50 * time.Millisecond})
	if err := c.Send(upN(1, nil)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "not flushed within 50ms") {
		t.Errorf("close: %v", err)
	}
}

// An announcement alone must not cost memory.
func TestAnnouncedPayloadIsNotAllocated(t *testing.T) {
	a := newAssembler(upward(), 1<<40, new(room))
	if err := a.begin(headFrame(1<<40, wire.Digest(nil))); err != nil {
		t.Fatal(err)
	}
	part := noise(1, 1000)
	for range 20 {
		if err := a.fill(bufferOf(part), 0); err != nil {
			t.Fatal(err)
		}
		if cap(a.payload) > growth*len(a.payload) {
			t.Fatalf("room for %d bytes after %d", cap(a.payload), len(a.payload))
		}
	}
}

// The danger: who sends a byte now and then makes a transfer of it that has no end.
func TestBytesAloneAreNoTransfer(t *testing.T) {
	told := 0
	a := newAssembler(upward(), 1<<40, new(room))
	a.moved = func() { told++ }
	if err := a.begin(headFrame(ChunkBytes+3, wire.Digest(nil))); err != nil {
		t.Fatal(err)
	}
	send := func(n int) {
		if err := a.fill(bufferOf(make([]byte, n)), 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		send(1)
	}
	if told != 0 {
		t.Errorf("told %d times of 1000 bytes", told)
	}
	send(ChunkBytes - 1000)
	for range 3 {
		send(1)
	}
	if told != 2 {
		t.Errorf("told %d times of %d bytes and the last ones", told, ChunkBytes)
	}
}

// A host that vanishes: bytes neither arrive nor are refused. The relay stands
// in for the network and stops passing anything on.
func TestFrozenPeerIsNoticed(t *testing.T) {
	ping := keepalive.ServerParameters{Time: time.Second, Timeout: 500 * time.Millisecond} // 1 s is gRPC's least
	r, _, j := serve(t, Options{ping: ping})
	front := relay(t, j.Address)
	j.Address = front.address
	dial(t, Dialer{}, j)
	r.wantHello(t)
	front.freeze()
	if e := r.wantGone(t); !errors.Is(e.err, ErrLost) {
		t.Errorf("gone: %v", e.err)
	}
}

func TestBrokenConnectionIsSeenByBoth(t *testing.T) {
	r, _, j := serve(t, Options{})
	front := relay(t, j.Address)
	j.Address = front.address
	c := dial(t, Dialer{}, j)
	r.wantHello(t)
	front.cut()
	if e := r.wantGone(t); !errors.Is(e.err, ErrLost) {
		t.Errorf("gone: %v", e.err)
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrLost) {
		t.Errorf("recv: %v", err)
	}
	if err := c.Send(upN(1, nil)); !errors.Is(err, ErrLost) {
		t.Errorf("send: %v", err)
	}
}

// wireRelay passes bytes between one client and a server.
type wireRelay struct {
	address string
	frozen  chan struct{}
	in, out net.Conn
	ready   chan struct{} // in and out are set
}

func relay(t *testing.T, server string) *wireRelay {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wireRelay{address: lis.Addr().String(), frozen: make(chan struct{}), ready: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer lis.Close()
		if w.in, err = lis.Accept(); err != nil {
			return
		}
		if w.out, err = net.Dial("tcp", server); err != nil {
			return
		}
		close(w.ready)
		back := make(chan struct{})
		go func() { defer close(back); w.pass(w.in, w.out) }()
		w.pass(w.out, w.in)
		<-back
	}()
	t.Cleanup(func() { w.cut(); <-done })
	return w
}

// pass copies until an end is closed; after freeze it reads on and passes nothing.
func (w *wireRelay) pass(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-w.frozen:
			continue
		default:
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *wireRelay) freeze() { close(w.frozen) }

func (w *wireRelay) cut() {
	<-w.ready
	w.in.Close()
	w.out.Close()
}

// Sessions that come and go are forgotten.
func TestManySessionsLeaveNothingBehind(t *testing.T) {
	r, s, j := serve(t, Options{})
	for range 30 {
		c := dial(t, Dialer{}, j)
		r.wantHello(t)
		go c.Close()
		r.wantGone(t)
		<-c.wrote
		<-c.read
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) > 1 {
		t.Errorf("%d sessions are still listed", len(s.peers))
	}
}

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mistura-project/mistura/internal/wire"
)

// Peer is one session of a learner, as the server sees it. Its methods may be
// called from anywhere and never block.
type Peer struct {
	server *Server
	stream grpc.ServerStream
	box    *outbox
	addr   string
	origin atomic.Pointer[wire.Origin] // stands on what is sent
	ended  chan struct{}               // closed by end

	mu     sync.Mutex
	why    error  // set by end, before ended is closed
	reason string // given to Close
	flush  *time.Timer
}

// Addr is the peer's network address, for messages.
func (p *Peer) Addr() string { return p.addr }

// Incarnation is the one that the session is of; 0: an arrival's that has none yet.
func (p *Peer) Incarnation() uint64 { return p.origin.Load().GetIncarnation() }

// Adopt gives the session of an arrival its incarnation. What is sent from here on
// carries it, and the learner takes it over from its welcome.
func (p *Peer) Adopt(incarnation uint64) { p.origin.Store(p.server.origin(incarnation)) }

// Reject tells the peer why it is not taken and closes the session. Retry: the same may
// be taken a moment later.
func (p *Peer) Reject(reason string, retry bool) {
	body := &wire.ToLearner_Rejected{Rejected: &wire.Rejected{Reason: reason, Retry: retry}}
	p.Send(Down{ToLearner: &wire.ToLearner{Body: body}}) //nolint:errcheck // it ends here either way
	p.Close(reason)
}

// Done is closed when the session has ended, before Gone is called.
func (p *Peer) Done() <-chan struct{} { return p.ended }

// Send queues m. An error means that m was not queued and will not arrive:
// ErrQueueFull (the peer is then being closed), ErrClosed, or m cannot be sent.
func (p *Peer) Send(m Down) error {
	it, err := downItem(m, p.origin.Load())
	if err != nil {
		return err
	}
	if err := p.box.put(it); err != nil {
		err = fmt.Errorf("transport: send to %s: %w", p.addr, err)
		if errors.Is(err, ErrQueueFull) {
			p.end(err)
		}
		return err
	}
	return nil
}

// Close ends the session after what is queued has gone out, for FlushTimeout at
// most. The peer is told the reason; Gone follows. Only the first call counts.
func (p *Peer) Close(reason string) {
	defer p.box.close() // after the reason is there for the writer to find
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flush != nil {
		return
	}
	p.reason = reason
	p.flush = time.AfterFunc(p.server.opts.FlushTimeout, func() { p.end(p.closed()) })
}

// closed is the error of a session that Close was called for, else nil.
func (p *Peer) closed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flush == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrClosed, p.reason)
}

// end ends the session at once; the first cause stands.
func (p *Peer) end(cause error) {
	defer p.box.close() // after the cause is there: a drained queue is one, too
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return
	default:
	}
	p.why = cause
	if p.flush != nil {
		p.flush.Stop()
	}
	close(p.ended)
}

// session runs one stream: a goroutine reads and one writes; whichever has a
// reason ends the session. Returning cancels the stream, which frees both.
func (s *Server) session(stream grpc.ServerStream) error {
	p := &Peer{
		server: s, stream: stream, box: newOutbox(s.opts.MaxQueuedBytes),
		addr: addrOf(stream.Context()), ended: make(chan struct{}),
	}
	p.Adopt(0)
	if reason := s.admit(p); reason != "" {
		return refuse(stream, p.origin.Load(), reason, true)
	}
	defer s.release(p)
	go p.write()
	go p.read()
	<-p.ended
	return asStatus(p.why)
}

// refuse answers a session that was not taken.
func refuse(stream grpc.ServerStream, origin *wire.Origin, reason string, retry bool) error {
	body := &wire.ToLearner_Rejected{Rejected: &wire.Rejected{Reason: reason, Retry: retry}}
	if err := stream.SendMsg(&wire.ToLearner{Origin: origin, Body: body}); err != nil {
		return err
	}
	return asStatus(fmt.Errorf("%w: %s", ErrClosed, reason))
}

// write sends what is queued until the session ends.
func (p *Peer) write() {
	defer p.server.running.Done()
	stalled := func() {
		p.end(fmt.Errorf("%w for %v", ErrStalled, p.server.opts.StallTimeout))
	}
	w := newWriter(p.box, downward(), p.stream.SendMsg, p.server.opts.StallTimeout, stalled)
	w.moved = func() { p.server.opts.Moved(p, false) }
	err := w.run(p.ended)
	if err != nil {
		err = lost(err)
	} else {
		err = p.closed()
	}
	p.end(err)
}

// read hands over what comes until the session ends.
func (p *Peer) read() {
	defer p.server.running.Done()
	a := newAssembler(upward(), 0, &p.server.room) // nothing is taken from who has not shown a pass
	a.moved = func() { p.server.opts.Moved(p, true) }
	hello, ok := p.greet(a)
	if !ok {
		return
	}
	a.limit = p.server.opts.MaxPayloadBytes
	h := p.server.handler
	h.Hello(p, hello.GetHello(), hello.Origin)
	for {
		m, err := p.receive(a)
		if err == io.EOF {
			p.box.close() // the writer drains the queue and ends the session
			<-p.ended
			break
		}
		if err != nil {
			p.end(err)
			break
		}
		h.Received(p, m)
	}
	h.Gone(p, p.why)
}

// greet waits for Hello and checks it. False: the session is over or being closed.
func (p *Peer) greet(a *assembler) (*wire.FromLearner, bool) {
	late := time.AfterFunc(p.server.opts.HelloTimeout, func() {
		p.end(fmt.Errorf("%w: no hello within %v", ErrMalformed, p.server.opts.HelloTimeout))
	})
	m, err := p.receiveAny(a)
	late.Stop()
	if err != nil {
		p.end(err)
		return nil, false
	}
	if reason := p.server.refusal(m); reason != "" {
		p.Reject(reason, false)
		return nil, false
	}
	p.Adopt(m.Origin.Incarnation)
	return m.FromLearner, true
}

// receive reads one message of the accepted session; after Close it reads on
// without handing over, so that the other side is not held up.
func (p *Peer) receive(a *assembler) (Up, error) {
	for {
		m, err := p.receiveAny(a)
		if err != nil {
			return Up{}, err
		}
		if reason := p.server.strayed(m); reason != "" {
			return Up{}, fmt.Errorf("%w: %s", ErrMalformed, reason)
		}
		if p.closed() == nil {
			return m, nil
		}
	}
}

func (p *Peer) receiveAny(a *assembler) (Up, error) {
	head, payload, damaged, err := a.next(p.stream.RecvMsg)
	if err != nil {
		return Up{}, lost(err)
	}
	return Up{FromLearner: head.(*wire.FromLearner), Payload: payload, Damaged: damaged}, nil
}

// refusal says why a session that begins with m is not taken, or "".
func (s *Server) refusal(m Up) string {
	hello := m.GetHello()
	if hello == nil {
		return "the first message must be hello"
	}
	if reason := s.strayed(m); reason != "" {
		return reason
	}
	if s.opts.Allow != nil {
		return s.opts.Allow(hello, m.GetOrigin())
	}
	return s.wrongSecret(hello.Secret)
}

// strayed says whether m belongs to another protocol or run, with both values.
func (s *Server) strayed(m Up) string {
	switch o := m.GetOrigin(); {
	case o.GetProtocol() != wire.Protocol:
		return fmt.Sprintf("the learner speaks protocol %d, the coordinator %d; use one version of mistura on both sides", o.GetProtocol(), wire.Protocol)
	case o.GetRunId() != s.opts.RunID:
		return fmt.Sprintf("the learner wants run %q, the coordinator here runs %q; check the join string", o.GetRunId(), s.opts.RunID)
	}
	return ""
}

// lost sorts the errors of a stream: what came in wrong, the end, and the rest.
func lost(err error) error {
	switch {
	case err == io.EOF, errors.Is(err, ErrMalformed):
		return err
	case status.Code(err) == codes.ResourceExhausted: // frame over MaxFrameBytes
		return fmt.Errorf("%w: %s", ErrMalformed, status.Convert(err).Message())
	}
	return fmt.Errorf("%w: %s", ErrLost, status.Convert(err).Message())
}

// asStatus is how a session ends for the other side.
func asStatus(why error) error {
	switch {
	case why == nil:
		return nil
	case errors.Is(why, ErrMalformed):
		return status.Error(codes.InvalidArgument, why.Error())
	}
	return status.Error(codes.Aborted, why.Error())
}

// addrOf is the address of the other side of a stream.
func addrOf(ctx context.Context) string {
	if p, ok := grpcpeer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return "unknown address"
}

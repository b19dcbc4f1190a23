package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/wire"
)

// Dialer opens sessions. The zero value of a field stands for its default.
//
// How large payloads get is not known before the run's model is. What an announcement alone can
// cost is bounded all the same (growth), and a learner queues one contribution of each fragment.
type Dialer struct {
	MaxPayloadBytes int64         // largest payload taken; 0: any
	MaxQueuedBytes  int64         // waiting to be sent before Send refuses; 0: any
	WindowBytes     int32         // under way from the coordinator while nobody is in Recv; 0: 16 MiB
	StallTimeout    time.Duration // for one frame (1 MiB at most) to be taken; 0: 30 s
	FlushTimeout    time.Duration // for queued messages on Close; 0: 5 s
}

func (d Dialer) withDefaults() Dialer {
	d.MaxPayloadBytes = orDefault(d.MaxPayloadBytes, math.MaxInt)
	d.MaxQueuedBytes = orDefault(d.MaxQueuedBytes, math.MaxInt)
	d.WindowBytes = orDefault(d.WindowBytes, windowBytes)
	d.StallTimeout = orDefault(d.StallTimeout, 30*time.Second)
	d.FlushTimeout = orDefault(d.FlushTimeout, 5*time.Second)
	return d
}

// Dial is Dialer{}.Dial.
func Dial(ctx context.Context, join wire.Join, hello *wire.Hello) (*Conn, error) {
	return Dialer{}.Dial(ctx, join, hello)
}

// Conn is one session, as the learner sees it.
type Conn struct {
	opts   Dialer
	cc     *grpc.ClientConn
	stream grpc.BidiStreamingClient[wire.FromLearner, wire.ToLearner]
	cancel context.CancelFunc          // ends the stream at once
	origin atomic.Pointer[wire.Origin] // stands on what is sent; its view is the one heard of last
	box    *outbox

	in      chan Down     // from the reader to Recv
	closing chan struct{} // closed by Close: what comes is thrown away
	read    chan struct{} // closed when the reader has ended
	wrote   chan struct{} // closed when the writer has ended
	once    sync.Once

	room  room         // for payloads that come
	moved atomic.Int64 // chunks of them that have come, and of those sent that were taken

	mu  sync.Mutex
	why error // first cause of the end; set before read is closed
}

// Dial opens a session and queues hello with the join's secret. Island and
// secret of hello are filled from join where empty. ctx bounds the dialling
// only. Whether the run takes the learner is the first message of Recv: Welcome
// or Rejected.
func (d Dialer) Dial(ctx context.Context, join wire.Join, hello *wire.Hello) (*Conn, error) {
	d = d.withDefaults()
	cc, err := d.connect(join)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := wire.NewExchangeClient(cc).Session(life)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		cc.Close()
		return nil, dialError(ctx, join, err)
	}
	c := &Conn{
		opts: d, cc: cc, stream: stream, cancel: cancel, box: newOutbox(d.MaxQueuedBytes),
		in: make(chan Down), closing: make(chan struct{}), read: make(chan struct{}), wrote: make(chan struct{}),
	}
	c.origin.Store(&wire.Origin{Protocol: wire.Protocol, RunId: join.RunID, Era: join.Era, Incarnation: join.Incarnation})
	first := &wire.Hello{}
	if hello != nil {
		first = proto.Clone(hello).(*wire.Hello)
	}
	first.Island, first.Secret, first.Token = orDefault(first.Island, join.Island), orDefault(first.Secret, join.Secret), orDefault(first.Token, join.Token)
	if err := c.Send(Up{FromLearner: &wire.FromLearner{Body: &wire.FromLearner_Hello{Hello: first}}}); err != nil {
		cancel()
		cc.Close()
		return nil, err
	}
	go c.write()
	go c.readAll()
	return c, nil
}

// connect prepares a connection; nothing is sent yet.
func (d Dialer) connect(join wire.Join) (*grpc.ClientConn, error) {
	secured, err := credentialsOf(join)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectPatience, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: 2 * time.Second, Count: 3}}
	cc, err := grpc.NewClient("passthrough:///"+join.Address,
		grpc.WithTransportCredentials(secured),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectPatience}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithInitialWindowSize(d.WindowBytes),
		grpc.WithInitialConnWindowSize(d.WindowBytes),
		grpc.WithReadBufferSize(socketBufferBytes),
		grpc.WithWriteBufferSize(socketBufferBytes),
		// 10 s is the shortest that gRPC allows here. Timeout is also the socket's
		// limit for unacknowledged bytes (Linux), and TCP's own keepalive above sees
		// a dead host in 9 s, so only a host whose process is frozen takes longer.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}),
			grpc.MaxCallRecvMsgSize(MaxFrameBytes),
			grpc.MaxCallSendMsgSize(MaxFrameBytes),
		),
	)
	if err != nil {
		return nil, fmt.Errorf("transport: address %q: %w", join.Address, err)
	}
	return cc, nil
}

// dialError tells the caller's own time limit from an address that does not answer.
func dialError(ctx context.Context, join wire.Join, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("transport: reach %s: %w", join.Address, ctx.Err())
	}
	return unreachable(join, lost(err))
}

// Send queues m; it never blocks. On an error m was not queued and will not
// arrive: ErrQueueFull (the session goes on), ErrClosed or ErrLost (it is over),
// or m cannot be sent.
func (c *Conn) Send(m Up) error {
	it, err := upItem(m, c.origin.Load())
	if err != nil {
		return err
	}
	if err := c.box.put(it); err != nil {
		if cause := c.cause(); cause != nil && cause != io.EOF && errors.Is(err, ErrClosed) {
			err = cause
		}
		return fmt.Errorf("transport: send: %w", err)
	}
	return nil
}

// Recv waits for the next message. After the last one it returns io.EOF when
// the coordinator ended the session in order, ErrClosed with its reason when it
// closed it, ErrLost when the connection broke. A cancelled ctx loses no message.
func (c *Conn) Recv(ctx context.Context) (Down, error) {
	select {
	case m := <-c.in:
		return m, nil
	case <-c.read:
		return Down{}, c.cause()
	case <-ctx.Done():
		return Down{}, ctx.Err()
	}
}

// Close sends what is queued, tells the coordinator that nothing follows and
// waits until it has taken all of it, for FlushTimeout at most. An error means
// that this is not certain. Messages that still come are thrown away.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.box.close()
		close(c.closing)
		limit := time.AfterFunc(c.opts.FlushTimeout, func() {
			c.fail(fmt.Errorf("%w: not flushed within %v", ErrLost, c.opts.FlushTimeout))
		})
		<-c.wrote
		<-c.read
		limit.Stop()
		c.cancel()
		c.cc.Close()
	})
	if err := c.cause(); err != io.EOF {
		return fmt.Errorf("transport: close: %w", err)
	}
	return nil
}

// Reuse gives back the memory of a payload that was received, or of another one like it: those to
// come are put there. Nobody may read it any more. Who keeps a payload need not call it.
func (c *Conn) Reuse(payload []byte) { c.room.give(payload) }

// Moved grows while payloads come or go.
func (c *Conn) Moved() int64 { return c.moved.Load() }

// fail ends the session at once; the first cause stands.
func (c *Conn) fail(cause error) {
	c.mu.Lock()
	if c.why == nil {
		c.why = cause
	}
	c.mu.Unlock()
	c.box.close()
	c.cancel()
}

// cause is why the session ended, nil while it has not.
func (c *Conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// write sends what is queued; after Close it ends the sending half.
func (c *Conn) write() {
	defer close(c.wrote)
	stalled := func() { c.fail(fmt.Errorf("%w for %v", ErrStalled, c.opts.StallTimeout)) }
	w := newWriter(c.box, upward(), c.stream.SendMsg, c.opts.StallTimeout, stalled)
	w.moved = func() { c.moved.Add(1) }
	if err := w.run(c.read); err != nil {
		return // the reader sees why
	}
	c.stream.CloseSend() // always nil
}

// readAll hands over what comes until the session ends.
func (c *Conn) readAll() {
	defer close(c.read)
	a := newAssembler(downward(), c.opts.MaxPayloadBytes, &c.room)
	a.moved = func() { c.moved.Add(1) }
	for {
		head, payload, damaged, err := a.next(c.stream.RecvMsg)
		if err == nil {
			err = c.hear(head)
		}
		if err != nil {
			c.fail(ended(err))
			return
		}
		select {
		case c.in <- Down{ToLearner: head.(*wire.ToLearner), Payload: payload, Damaged: damaged}:
		case <-c.closing:
		}
	}
}

// Origin is who this side speaks for: after its welcome an arrival has era and
// incarnation in it.
func (c *Conn) Origin() *wire.Origin { return c.origin.Load() }

// hear checks a frame's origin and takes over its view, and with a welcome who one is.
func (c *Conn) hear(head frame) error {
	own := c.origin.Load()
	if err := checkOrigin(head, own); err != nil {
		return err
	}
	next := &wire.Origin{Protocol: own.Protocol, RunId: own.RunId, Era: own.Era, Incarnation: own.Incarnation, View: head.GetOrigin().GetView()}
	if m, ok := head.(*wire.ToLearner); ok && m.GetWelcome() != nil && own.Era == 0 {
		next.Era, next.Incarnation = m.Origin.GetEra(), m.Origin.GetIncarnation()
	}
	if next.View != own.View || next.Era != own.Era {
		c.origin.Store(next)
	}
	return nil
}

// ended is lost for the client's side, where the coordinator gives its reason.
func ended(err error) error {
	if err == io.EOF || errors.Is(err, ErrMalformed) {
		return err
	}
	switch s := status.Convert(err); s.Code() {
	case codes.Aborted, codes.InvalidArgument, codes.ResourceExhausted:
		return fmt.Errorf("%w: %s", ErrClosed, strings.TrimPrefix(s.Message(), ErrClosed.Error()+": ")) // said once
	}
	return lost(err)
}

// checkOrigin refuses frames of another protocol or run.
func checkOrigin(f frame, own *wire.Origin) error {
	o := f.GetOrigin()
	if r, ok := f.(*wire.ToLearner); ok && r.GetRejected() != nil {
		return nil // that is where a coordinator says so
	}
	if o.GetProtocol() != own.Protocol || o.GetRunId() != own.RunId {
		return fmt.Errorf("%w: frame of protocol %d, run %q in a session of protocol %d, run %q",
			ErrMalformed, o.GetProtocol(), o.GetRunId(), own.Protocol, own.RunId)
	}
	return nil
}

// Identify asks who coordinates at the address of a join string.
func Identify(ctx context.Context, join wire.Join) (*wire.Identity, error) {
	cc, err := Dialer{}.withDefaults().connect(join)
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	id, err := wire.NewExchangeClient(cc).Identify(ctx, &wire.IdentifyRequest{Protocol: wire.Protocol})
	if err != nil {
		return nil, dialError(ctx, join, err)
	}
	return id, nil
}

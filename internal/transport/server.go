package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/mistura-project/mistura/internal/wire"
)

// Options configure a Server. The zero value of a limit stands for its default.
type Options struct {
	RunID  string
	Era    uint32
	View   uint64 // that this server speaks for
	Secret string // every member of the run knows it; empty: none is asked for

	// Allow judges a hello of this protocol and run in place of Secret: empty, or why it
	// is refused. Nil: Secret decides.
	Allow func(hello *wire.Hello, origin *wire.Origin) (reason string)
	Desk  Desk     // answers calls beside sessions; nil: nobody does
	Seed  SeedSink // takes first weights from an island; nil: none are taken

	// Moved is told of every MiB of a payload that has come from a peer, or that its side of
	// the connection has taken. It must not block; nil: nobody asks.
	Moved func(p *Peer, came bool)

	MaxPayloadBytes int64         // largest payload taken from a peer; 0: 1 GiB
	MaxQueuedBytes  int64         // waiting for one peer before it is closed, room for a whole model; 0: twice MaxPayloadBytes
	MaxPeers        int           // sessions at a time; 0: 1024
	WindowBytes     int32         // under way from one peer while the handler is busy; 0: 16 MiB, that is 1 Gbit/s at 128 ms
	HelloTimeout    time.Duration // from the start of a session to its Hello; 0: 5 s
	StallTimeout    time.Duration // for one frame (1 MiB at most) to be taken, and between two of an upload; 0: 30 s
	FlushTimeout    time.Duration // for queued messages when a session or the server is closed; 0: 5 s

	ping keepalive.ServerParameters // tests shorten it
}

// withDefaults fills what is zero.
func (o Options) withDefaults() Options {
	o.MaxPayloadBytes = orDefault(o.MaxPayloadBytes, 1<<30)
	o.MaxQueuedBytes = orDefault(o.MaxQueuedBytes, 2*o.MaxPayloadBytes)
	o.MaxPeers = orDefault(o.MaxPeers, 1024)
	o.WindowBytes = orDefault(o.WindowBytes, windowBytes)
	o.HelloTimeout = orDefault(o.HelloTimeout, 5*time.Second)
	o.StallTimeout = orDefault(o.StallTimeout, 30*time.Second)
	o.FlushTimeout = orDefault(o.FlushTimeout, 5*time.Second)
	if o.Moved == nil {
		o.Moved = func(*Peer, bool) {}
	}
	o.ping.Time = orDefault(o.ping.Time, 5*time.Second)
	o.ping.Timeout = orDefault(o.ping.Timeout, 4*time.Second)
	o.ping.MaxConnectionIdle = orDefault(o.ping.MaxConnectionIdle, time.Minute)
	return o
}

func orDefault[T comparable](v, whenZero T) T {
	var zero T
	if v == zero {
		return whenZero
	}
	return v
}

// Handler takes what peers say. For one peer the calls come one at a time, from
// the peer's own goroutine: Hello, then Received for each message, then Gone
// once; Gone comes for every peer that Hello was called for. Peers are
// concurrent to each other. A call that blocks stops that peer by flow control;
// it must come back when Peer.Done is closed, and must not call Server.Close.
type Handler interface {
	// Hello opens a session of this protocol, run and secret. Island, era and
	// incarnation are the handler's to judge; it may Send and Close at once.
	Hello(p *Peer, hello *wire.Hello, origin *wire.Origin)
	// Received hands over a message; its payload belongs to the handler.
	Received(p *Peer, m Up)
	// Gone ends the session. err is nil when the peer ended it after its last message.
	Gone(p *Peer, err error)
}

// Server takes the sessions of learners.
type Server struct {
	opts    Options
	handler Handler
	grpc    *grpc.Server
	room    room // for payloads that come

	mu      sync.Mutex
	peers   map[*Peer]struct{} // open sessions, accepted or not
	closing bool
	running sync.WaitGroup // goroutines of sessions
}

// New makes a server of one era of one run.
func New(o Options, h Handler) *Server {
	s := &Server{opts: o.withDefaults(), handler: h, peers: make(map[*Peer]struct{})}
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(MaxFrameBytes),
		grpc.MaxSendMsgSize(MaxFrameBytes),
		grpc.InitialWindowSize(s.opts.WindowBytes),
		grpc.InitialConnWindowSize(s.opts.WindowBytes),
		grpc.ReadBufferSize(socketBufferBytes),
		grpc.WriteBufferSize(socketBufferBytes),
		grpc.MaxConcurrentStreams(16),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveParams(s.opts.ping),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	wire.RegisterExchangeServer(s.grpc, service{server: s})
	return s
}

// Of a connection, both sides.
const (
	windowBytes       = 16 << 20
	socketBufferBytes = 128 << 10
)

// Serve takes sessions from lis until Close, then returns nil. It closes lis.
func (s *Server) Serve(lis net.Listener) error {
	err := s.grpc.Serve(lis)
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("transport: serve %s: %w", lis.Addr(), err)
}

// Close lets every peer have what is queued for it, for FlushTimeout at most,
// ends all sessions and returns when no goroutine of the server is left.
func (s *Server) Close() {
	for _, p := range s.beginClose() {
		p.Close("the coordinator is closing")
	}
	s.running.Wait()
	// What the sessions said last may still be on its way to the sockets.
	limit := time.AfterFunc(s.opts.FlushTimeout, s.grpc.Stop)
	s.grpc.GracefulStop()
	limit.Stop()
}

// Reuse is Conn.Reuse for what any peer has sent.
func (s *Server) Reuse(payload []byte) { s.room.give(payload) }

// beginClose refuses new sessions and lists the open ones.
func (s *Server) beginClose() []*Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	open := make([]*Peer, 0, len(s.peers))
	for p := range s.peers {
		open = append(open, p)
	}
	return open
}

// admit registers a session; its two goroutines are counted in running. The
// reason is "" or why it cannot be taken now.
func (s *Server) admit(p *Peer) (reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return "the coordinator is closing"
	case len(s.peers) >= s.opts.MaxPeers:
		return fmt.Sprintf("%d peers are connected, no more are taken", len(s.peers))
	}
	s.peers[p] = struct{}{}
	s.running.Add(2)
	return ""
}

// release forgets a session.
func (s *Server) release(p *Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// origin is what the server's own frames carry.
func (s *Server) origin(incarnation uint64) *wire.Origin {
	return &wire.Origin{Protocol: wire.Protocol, RunId: s.opts.RunID, Era: s.opts.Era, View: s.opts.View, Incarnation: incarnation}
}

// service implements wire.ExchangeServer.
type service struct {
	wire.UnimplementedExchangeServer
	server *Server
}

var _ wire.ExchangeServer = service{}

// Identify says whose server this is, to anybody.
func (v service) Identify(context.Context, *wire.IdentifyRequest) (*wire.Identity, error) {
	o := v.server.opts
	return &wire.Identity{Protocol: wire.Protocol, RunId: o.RunID, Era: o.Era}, nil
}

// Session runs one peer.
func (v service) Session(stream grpc.BidiStreamingServer[wire.FromLearner, wire.ToLearner]) error {
	return v.server.session(stream)
}

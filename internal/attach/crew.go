package attach

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// ErrLost: a rank of the trainer is gone, or says what makes no sense.
var ErrLost = errors.New("the trainer is gone")

// ErrAgain: the run goes on without this life of the island, and takes its trainer in anew.
var ErrAgain = errors.New("asked to join again")

// Crew is the ranks of a trainer on this host.
type Crew struct {
	lis     net.Listener
	path    string
	version string
	log     *slog.Logger
	lost    func(error) // told once, of the first rank that is gone before it may
	about   func() (*Run, error)
	unread  time.Duration

	full    chan struct{} // closed when the last rank has said hello
	serving chan struct{} // closed by Serve
	handle  func(*Rank, any) error
	readers sync.WaitGroup
	once    sync.Once

	mu      sync.Mutex
	conns   map[net.Conn]bool
	ranks   []*Rank // by host rank; nil: not here yet
	here    int
	parting bool // ranks may go
	closed  bool
}

// Options of Listen.
type Options struct {
	Path     string // of the socket
	Version  string // of this program
	Logger   *slog.Logger
	Lost     func(error)   // called once when a rank is lost; it must not wait
	Patience time.Duration // how long a process that listens there may take to go; 0: it is an error at once
	Unread   time.Duration // how long a rank may leave unread what it is told, before it is lost; 0: a minute

	Describe func() (*Run, error) // which run this is, for ranks that ask before hello; nil: nobody knows
}

// Listen waits for ranks on a Unix socket that only this user can open. A socket that
// a dead process has left behind is replaced.
func Listen(o Options) (*Crew, error) {
	if len(o.Path) > maxPath {
		return nil, &fault.Input{Where: "socket", Value: o.Path, Problem: fmt.Sprintf("%d bytes are too long for a Unix socket", len(o.Path)), Next: fmt.Sprintf("use a path of at most %d bytes", maxPath)}
	}
	if err := sweep(o.Path, o.Patience); err != nil {
		return nil, err
	}
	lis, err := net.Listen("unix", o.Path)
	if err == nil {
		if err = os.Chmod(o.Path, 0o600); err != nil {
			lis.Close()
		}
	}
	if err != nil {
		return nil, &fault.Input{Where: "socket", Value: o.Path, Problem: "cannot be made", Next: "use a path in a folder that is there and writable", Err: err}
	}
	c := &Crew{
		lis: lis, path: o.Path, version: o.Version, log: o.Logger, lost: o.Lost, about: o.Describe, unread: cmp.Or(o.Unread, time.Minute),
		full: make(chan struct{}), serving: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	c.readers.Go(c.accept)
	return c, nil
}

// maxPath is what every system takes for a socket: 104 bytes on macOS, 108 on Linux,
// with the zero behind it.
const maxPath = 103

// sweepEvery is the pause before a socket that is in use is looked at again.
const sweepEvery = 250 * time.Millisecond

// sweep removes a socket that nobody listens on. Whoever does may be on its way out, as an
// island is whose parent was killed.
func sweep(path string, patience time.Duration) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return &fault.Input{Where: "socket", Value: path, Problem: "is there already and no socket", Next: "use another path"}
	}
	for began := time.Now(); ; time.Sleep(sweepEvery) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		conn.Close()
		if time.Since(began) < patience {
			continue
		}
		return &fault.Input{Where: "socket", Value: path, Problem: "another process listens there", Next: "end it, or use another path"}
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // it took it along
}

// Path of the socket.
func (c *Crew) Path() string { return c.path }

// acceptAgain is the pause before ranks are taken in again after the system could not, as a
// process that has no files left cannot.
const acceptAgain = 100 * time.Millisecond

func (c *Crew) accept() {
	for {
		conn, err := c.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.log.Warn("not_accepted", "err", err)
			time.Sleep(acceptAgain)
			continue
		}
		c.mu.Lock()
		open := !c.closed && ours(conn)
		if open {
			c.conns[conn] = true
			c.readers.Go(func() { c.read(conn) })
		}
		c.mu.Unlock()
		if !open {
			conn.Close()
		}
	}
}

// lines reads messages from a connection.
func lines(conn net.Conn) *bufio.Scanner {
	s := bufio.NewScanner(conn)
	s.Buffer(make([]byte, 0, 64<<10), MaxLineBytes)
	return s
}

// next is the next message, or why there is none.
func next(s *bufio.Scanner) (any, error) {
	if s.Scan() {
		return Decode(s.Bytes())
	}
	switch err := s.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("a message of more than %d bytes", MaxLineBytes)
	case err != nil:
		return nil, err
	}
	return nil, errors.New("its socket was closed")
}

// read takes a connection from its hello to its end.
func (c *Crew) read(conn net.Conn) {
	defer func() {
		conn.Close()
		c.mu.Lock()
		delete(c.conns, conn)
		c.mu.Unlock()
	}()
	s := lines(conn)
	m, err := next(s)
	if _, asked := m.(*Describe); asked {
		if err = c.describe(conn); err == nil {
			m, err = next(s)
		}
	}
	if err != nil {
		c.log.Warn("no_hello", "err", err)
		refuse(conn, helloFault(err))
		return
	}
	h, ok := m.(*Hello)
	if !ok {
		refuse(conn, &fault.Input{Where: "hello", Value: kindOf(m), Problem: "is not how a rank begins", Next: "say hello first"})
		return
	}
	r, err := c.enroll(conn, h)
	if err != nil {
		c.log.Warn("refused", "rank", h.Rank, "err", err)
		refuse(conn, err)
		return
	}
	c.log.Info("rank_is_here", "rank", h.Rank, "world", h.World, "pid", h.PID)
	for {
		m, err := next(s)
		if err == nil {
			err = c.dispatch(r, m)
		}
		if err != nil {
			c.part(r, r.why(err))
			return
		}
	}
}

// describe tells a rank which run this is.
func (c *Crew) describe(conn net.Conn) error {
	if c.about == nil {
		return &fault.Input{Where: "describe", Problem: "this process does not know the run before a trainer has joined it", Next: "start the trainer with --engine torch"}
	}
	about, err := c.about()
	if err != nil {
		return err
	}
	line, err := Encode(about)
	if err == nil {
		_, err = conn.Write(line)
	}
	return err
}

// helloFault says why there was no hello.
func helloFault(err error) error {
	if in := (*fault.Input)(nil); errors.As(err, &in) {
		return in
	}
	return &fault.Input{Where: "hello", Problem: err.Error()}
}

// refuse answers a hello that leads to nothing.
func refuse(conn net.Conn, err error) {
	if line, e := Encode(&Refused{faultOf(err)}); e == nil {
		conn.Write(line) //nolint:errcheck // it may be gone already
	}
}

// faultOf gives an error the form of a message.
func faultOf(err error) Fault {
	var input *fault.Input
	if errors.As(err, &input) {
		problem := input.Problem
		if input.Err != nil {
			problem += fmt.Sprintf(" (%v)", input.Err)
		}
		return Fault{Where: input.Where, Value: input.Value, Problem: problem, Next: input.Next}
	}
	return Fault{Problem: err.Error(), Again: errors.Is(err, ErrAgain)}
}

// enroll takes a rank in, or says why not.
func (c *Crew) enroll(conn net.Conn, h *Hello) (*Rank, error) {
	if h.Protocol != Protocol {
		return nil, &fault.Input{
			Where: "local protocol", Value: fmt.Sprint(h.Protocol), Problem: fmt.Sprintf("this mistura (%s) speaks %d", c.version, Protocol),
			Next: "install the Python package and the program of one version",
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ranks == nil {
		c.ranks = make([]*Rank, h.HostWorld)
	}
	if why := c.unlike(h); why != "" {
		return nil, &fault.Input{Where: "hello", Value: fmt.Sprintf("rank %d", h.Rank), Problem: why, Next: "start all ranks of the island anew"}
	}
	r := &Rank{Hello: h, conn: conn, unread: c.unread, mapped: make(chan struct{}), seeded: make(chan struct{}, 1)}
	c.ranks[h.HostRank] = r
	if c.here++; c.here == len(c.ranks) {
		close(c.full)
	}
	return r, nil
}

// unlike says what of a hello contradicts those that are here; mu is held.
func (c *Crew) unlike(h *Hello) string {
	if len(c.ranks) != h.HostWorld {
		return fmt.Sprintf("host_world is %d, other ranks say %d", h.HostWorld, len(c.ranks))
	}
	if c.ranks[h.HostRank] != nil {
		return fmt.Sprintf("host_rank %d is here already", h.HostRank)
	}
	for _, r := range c.ranks {
		if r == nil {
			continue
		}
		switch o := r.Hello; {
		case o.Rank == h.Rank:
			return "this rank is here already"
		case o.World != h.World || o.Part != h.Part || o.Parts != h.Parts || o.Incarnation != h.Incarnation:
			return fmt.Sprintf("world %d, part %d of %d, incarnation %d, while rank %d says %d, %d of %d, %d",
				h.World, h.Part, h.Parts, h.Incarnation, o.Rank, o.World, o.Part, o.Parts, o.Incarnation)
		case o.OwnData != h.OwnData || o.OwnRate != h.OwnRate || o.Name != h.Name || !slices.Equal(o.Slots, h.Slots):
			return fmt.Sprintf("own_data, own_rate, name or slots differ from rank %d's", o.Rank)
		}
	}
	return ""
}

// Gather waits until all ranks of this host have said hello.
func (c *Crew) Gather(ctx context.Context) ([]*Rank, error) {
	select {
	case <-c.full:
		return c.ranks, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Here says whether all ranks of this host have said hello.
func (c *Crew) Here() bool {
	select {
	case <-c.full:
		return true
	default:
		return false
	}
}

// Serve hands over what ranks say, from the welcome on, each rank's messages in order and
// by a goroutine of its own. An error ends the rank.
func (c *Crew) Serve(handle func(*Rank, any) error) {
	c.handle = handle
	close(c.serving)
}

// dispatch hands on one message.
func (c *Crew) dispatch(r *Rank, m any) error {
	switch m := m.(type) {
	case *Hello:
		return errors.New("it said hello twice")
	case *Failed:
		return errors.New(cmp.Or(m.Problem, "it does not say why it ends"))
	case *Mapped:
		r.once.Do(func() { close(r.mapped) })
		return nil
	case *Seeded:
		if !r.lending.CompareAndSwap(true, false) {
			return errors.New("it said seeded, and was not asked")
		}
		r.seeded <- struct{}{}
		return nil
	}
	<-c.serving
	if c.handle == nil {
		return errors.New("the island has ended")
	}
	return c.handle(r, m)
}

// part is the end of a rank. It is told to a rank that is still there.
func (c *Crew) part(r *Rank, err error) {
	c.mu.Lock()
	expected := c.parting || c.closed
	c.mu.Unlock()
	if expected {
		return
	}
	c.lis.Close()      // whoever comes from here on is to find the next process of the island, not the end of this one
	c.once.Do(func() { // before the end of another rank, which may follow from what this one hears
		var input *fault.Input
		if errors.As(err, &input) {
			r.Send(&Failed{faultOf(err)}) //nolint:errcheck // it may be gone already
		} else {
			err = fmt.Errorf("%w: rank %d (process %d): %w", ErrLost, r.Hello.Rank, r.Hello.PID, err)
		}
		c.lost(err)
	})
}

// Fail tells every rank why the island ends; in place of a welcome when there was none.
// Who then joins again at once is to find the next process of the island, not this one.
func (c *Crew) Fail(err error, welcomed bool) {
	c.lis.Close()
	var m any = &Failed{faultOf(err)}
	if !welcomed {
		m = &Refused{faultOf(err)}
	}
	c.mu.Lock()
	c.parting = true
	ranks := slices.Clone(c.ranks)
	c.mu.Unlock()
	var telling sync.WaitGroup
	for _, r := range ranks {
		if r != nil {
			telling.Go(func() { r.farewell(m) })
		}
	}
	telling.Wait()
}

// Part lets ranks go: from now on none is lost.
func (c *Crew) Part() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parting = true
}

// Gone waits until every rank has closed its socket.
func (c *Crew) Gone(ctx context.Context) error {
	c.lis.Close()
	gone := make(chan struct{})
	go func() {
		c.readers.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends all connections and waits for their readers.
func (c *Crew) Close() {
	c.lis.Close()
	c.mu.Lock()
	c.closed = true
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	if c.handle == nil {
		select {
		case <-c.serving:
		default:
			close(c.serving)
		}
	}
	c.readers.Wait()
	for _, r := range c.ranks {
		if r != nil {
			r.memory.close()
		}
	}
}

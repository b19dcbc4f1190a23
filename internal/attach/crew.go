package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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

// Path of the socket.
func (c *Crew) Path() string { return c.path }

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

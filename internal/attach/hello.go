package attach

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/mistura-project/mistura/internal/fault"
)

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
	r := &Rank{Hello: h, log: c.log, conn: conn, unread: c.unread, mapped: make(chan struct{}), seeded: make(chan struct{}, 1)}
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
	f := Fault{Problem: err.Error(), Again: errors.Is(err, ErrAgain)}
	if advises := (interface{ Advice() string })(nil); errors.As(err, &advises) {
		f.Next = advises.Advice()
	}
	return f
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

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mistura-project/mistura/internal/wire"
)

// Calls are calls beside a session, under the credentials of a join string.
type Calls struct {
	join wire.Join
	cc   *grpc.ClientConn
	to   wire.ExchangeClient
}

// ErrRefused: the coordinator refused a call, in words.
var ErrRefused = errors.New("refused by the coordinator")

// Call prepares calls; nothing is sent yet.
func Call(join wire.Join) (*Calls, error) {
	cc, err := Dialer{}.withDefaults().connect(join)
	if err != nil {
		return nil, err
	}
	return &Calls{join: join, cc: cc, to: wire.NewExchangeClient(cc)}, nil
}

// Close ends the connection.
func (c *Calls) Close() error { return c.cc.Close() }

func (c *Calls) credentials() *wire.Credentials {
	return &wire.Credentials{Protocol: wire.Protocol, RunId: c.join.RunID, Secret: c.join.Secret, Token: c.join.Token}
}

// Fetch writes a file of the run, from an offset on, and tells how many bytes came. One
// that has more than limit is an error.
func (c *Calls) Fetch(ctx context.Context, name string, offset, limit int64, w io.Writer) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.to.Fetch(ctx, &wire.FetchRequest{Credentials: c.credentials(), Name: name, Offset: uint64(offset)})
	var n int64
	for err == nil {
		var m *wire.Chunk
		if m, err = stream.Recv(); err != nil {
			break
		}
		if n += int64(len(m.Data)); n > limit-offset {
			return n, fmt.Errorf("fetch %s: more than the %d bytes that it should have", name, limit)
		}
		if _, err := w.Write(m.Data); err != nil {
			return n, fmt.Errorf("fetch %s: %w", name, err)
		}
	}
	if err != io.EOF {
		return n, c.failed("fetch "+name, err)
	}
	return n, nil
}

// Store sends what write gives as an object of the run.
func (c *Calls) Store(ctx context.Context, object string, incarnation uint64, write func(io.Writer) error) (*wire.StoreReply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.to.Store(ctx)
	if err != nil {
		return nil, c.failed("store "+object, err)
	}
	w := &cutter{send: stream.Send, head: &wire.StoreRequest{Credentials: c.credentials(), Object: object, Incarnation: incarnation}}
	err = write(w)
	if err == nil {
		err = w.flush()
	}
	if err != nil && err != io.EOF { // io.EOF: the coordinator has said why
		return nil, fmt.Errorf("store %s: %w", object, err) // cancelled: half of it is never taken
	}
	reply, err := stream.CloseAndRecv()
	if err != nil {
		return nil, c.failed("store "+object, err)
	}
	return reply, nil
}

// Status is how the run goes, as JSON.
func (c *Calls) Status(ctx context.Context) ([]byte, error) {
	reply, err := c.to.Status(ctx, &wire.StatusRequest{Credentials: c.credentials()})
	if err != nil {
		return nil, c.failed("status", err)
	}
	return reply.Json, nil
}

// Rates is how fast the way was just now, in bytes per second.
type Rates struct{ Down, Up float64 }

// Measure sends and fetches some megabytes.
func (c *Calls) Measure(ctx context.Context) (Rates, error) {
	began := time.Now()
	n, err := c.Fetch(ctx, probeName, 0, probeBytes, io.Discard)
	if err != nil {
		return Rates{}, err
	}
	r := Rates{Down: float64(n) / time.Since(began).Seconds()}
	began = time.Now()
	if _, err := c.Store(ctx, probeName, 0, func(w io.Writer) error {
		_, err := io.CopyN(w, nothing{}, probeBytes)
		return err
	}); err != nil {
		return Rates{}, err
	}
	r.Up = probeBytes / time.Since(began).Seconds()
	return r, nil
}

// failed sorts what ends a call: a refusal in words, a way that does not work, the rest.
func (c *Calls) failed(what string, err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.PermissionDenied, codes.FailedPrecondition, codes.Unimplemented:
		return fmt.Errorf("%s: %w: %s", what, ErrRefused, s.Message())
	case codes.Unavailable:
		return unreachable(c.join, err)
	case codes.Canceled, codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %s", what, status.Convert(err).Message())
}

// cutter cuts what is written into requests, the first of which has the head.
type cutter struct {
	send func(*wire.StoreRequest) error
	head *wire.StoreRequest
	wait []byte
}

func (c *cutter) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		if c.wait == nil {
			c.wait = make([]byte, 0, ChunkBytes)
		}
		n := min(len(p), cap(c.wait)-len(c.wait))
		c.wait, p = append(c.wait, p[:n]...), p[n:]
		if len(c.wait) == cap(c.wait) {
			if err := c.flush(); err != nil {
				return all - len(p), err
			}
		}
	}
	return all, nil
}

// flush sends what waits, and the head in any case.
func (c *cutter) flush() error {
	m := &wire.StoreRequest{Data: c.wait}
	if c.head != nil {
		m, c.head = c.head, nil
		m.Data = c.wait
	} else if len(c.wait) == 0 {
		return nil
	}
	c.wait = nil
	return c.send(m)
}

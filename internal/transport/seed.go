package transport

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mistura-project/mistura/internal/wire"
)

// ErrSeeded: the run has its first weights already, or takes none from an island.
var ErrSeeded = errors.New("the run takes no first weights now")

// SeedSink takes the first weights of a run from an island. Uploads may come at the same
// time; refusing one for ErrSeeded finds no fault with the island.
type SeedSink interface {
	// Wanted says why no weights are taken from the island, or nil.
	Wanted(island string) error
	// Take stores a safetensors file and gives its SHA-256. File ends with an error when it
	// stops coming.
	Take(ctx context.Context, island string, file io.Reader) (digest string, err error)
}

// Seed takes the first weights. A call without data asks whether they are wanted.
func (v service) Seed(stream grpc.ClientStreamingServer[wire.SeedRequest, wire.SeedReply]) error {
	next := inTime(stream.Recv, v.server.opts.StallTimeout)
	first, err := next()
	if err != nil {
		return asCall(err)
	}
	if err := v.server.allows(first.GetCredentials()); err != nil {
		return err
	}
	sink := v.server.opts.Seed
	if sink == nil {
		return seedStatus(ErrSeeded)
	}
	if err := sink.Wanted(first.Island); err != nil {
		return seedStatus(err)
	}
	if len(first.Data) == 0 {
		return stream.SendAndClose(&wire.SeedReply{})
	}
	digest, err := sink.Take(stream.Context(), first.Island, uploaded(first, next))
	if err != nil {
		return seedStatus(err)
	}
	return stream.SendAndClose(&wire.SeedReply{Digest: digest})
}

// seedStatus is how a refused upload looks to the other side.
func seedStatus(err error) error {
	if errors.Is(err, ErrSeeded) {
		return status.Error(codes.AlreadyExists, err.Error())
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// SeedWanted asks whether the run takes its first weights from the island now. An error
// wraps ErrSeeded if it has them, ErrRefused if it does not take them from there.
func (c *Calls) SeedWanted(ctx context.Context, island string) error {
	_, err := c.Seed(ctx, island, func(io.Writer) error { return nil })
	return err
}

// Seed uploads the first weights of the run, a safetensors file: what write writes. It
// gives the digest of what is stored; errors are those of SeedWanted.
func (c *Calls) Seed(ctx context.Context, island string, write func(io.Writer) error) (digest string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.to.Seed(ctx)
	if err != nil {
		return "", c.failed("first weights", err)
	}
	first := &wire.SeedRequest{Credentials: c.credentials(), Island: island}
	w := &cutter{head: &wire.StoreRequest{}, send: func(m *wire.StoreRequest) error {
		next := first
		first = &wire.SeedRequest{}
		next.Data = m.Data
		return stream.Send(next)
	}}
	err = write(w)
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = ctx.Err() // what was cut off must not end like a whole file
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the coordinator has said why
		return "", fmt.Errorf("first weights: %w", err)
	}
	reply, err := stream.CloseAndRecv()
	if status.Code(err) == codes.AlreadyExists {
		return "", ErrSeeded
	}
	if err != nil {
		return "", c.failed("first weights", err)
	}
	return reply.Digest, nil
}

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

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/wire"
)

// Desk answers calls beside sessions: files that an island on another host needs, the
// state that it saves, and how the run goes. Its methods are called concurrently. An
// error of bad input reaches the caller in its words, any other as a failure.
type Desk interface {
	// Allow judges the credentials of a call: empty, or why it is refused.
	Allow(who *wire.Credentials) (reason string)
	// Fetch opens a file of the run; the transport closes it.
	Fetch(ctx context.Context, who *wire.Credentials, name string) (File, error)
	// Store takes an island's saved state as the object of that name. Data ends with an
	// error when it stops coming.
	Store(ctx context.Context, who *wire.Credentials, object string, incarnation uint64, data io.Reader) (*wire.StoreReply, error)
	// Status tells how the run goes, as JSON.
	Status(ctx context.Context) ([]byte, error)
}

// File is what Fetch reads, from any offset to its end.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64 // bytes
}

// probeName is asked for to measure the way: bytes that are nothing, either way.
const (
	probeName  = "probe"
	probeBytes = 8 << 20
)

// clerk checks who calls.
func (v service) clerk(who *wire.Credentials) (Desk, error) {
	o := v.server.opts
	if o.Desk == nil {
		return nil, status.Error(codes.Unimplemented, "this coordinator answers no such calls")
	}
	return o.Desk, v.server.allows(who)
}

// answer is an error as the caller hears it.
func answer(err error) error {
	if in := (*fault.Input)(nil); errors.As(err, &in) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

// Fetch sends a file from an offset to its end, or bytes that are nothing.
func (v service) Fetch(r *wire.FetchRequest, stream grpc.ServerStreamingServer[wire.Chunk]) error {
	desk, err := v.clerk(r.Credentials)
	if err != nil {
		return err
	}
	if r.Name == probeName {
		return sendAll(io.LimitReader(nothing{}, probeBytes), stream.Send)
	}
	f, err := desk.Fetch(stream.Context(), r.Credentials, r.Name)
	if err != nil {
		return answer(err)
	}
	defer f.Close()
	if r.Offset > uint64(f.Size()) {
		return status.Errorf(codes.FailedPrecondition, "%s has %d bytes, it is asked for from byte %d on", r.Name, f.Size(), r.Offset)
	}
	return sendAll(io.NewSectionReader(f, int64(r.Offset), f.Size()-int64(r.Offset)), stream.Send)
}

// sendAll cuts what r gives into chunks.
func sendAll(r io.Reader, send func(*wire.Chunk) error) error {
	for {
		block := make([]byte, ChunkBytes)
		n, err := io.ReadFull(r, block)
		if n > 0 {
			if err := send(&wire.Chunk{Data: block[:n]}); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return answer(fmt.Errorf("reading: %w", err))
		}
	}
}

// Store takes what an island saves.
func (v service) Store(stream grpc.ClientStreamingServer[wire.StoreRequest, wire.StoreReply]) error {
	next := inTime(stream.Recv, v.server.opts.StallTimeout)
	first, err := next()
	if err != nil {
		return asCall(err)
	}
	desk, err := v.clerk(first.Credentials)
	if err != nil {
		return err
	}
	data := uploaded(first, next)
	if first.Object == probeName {
		n, err := io.Copy(io.Discard, io.LimitReader(data, probeBytes))
		if err != nil {
			return asCall(err)
		}
		return stream.SendAndClose(&wire.StoreReply{SizeBytes: uint64(n)})
	}
	reply, err := desk.Store(stream.Context(), first.Credentials, first.Object, first.Incarnation, data)
	if err != nil {
		return answer(err)
	}
	return stream.SendAndClose(reply)
}

// Status tells how the run goes.
func (v service) Status(ctx context.Context, r *wire.StatusRequest) (*wire.StatusReply, error) {
	desk, err := v.clerk(r.Credentials)
	if err != nil {
		return nil, err
	}
	text, err := desk.Status(ctx)
	if err != nil {
		return nil, answer(err)
	}
	return &wire.StatusReply{Json: text}, nil
}

// inTime bounds each wait for a message: who opens a stream and says nothing, or stops, must
// not hold what it is served with. After an error the stream is to be ended, which frees who
// still waits.
func inTime[M any](recv func() (M, error), limit time.Duration) func() (M, error) {
	type heard struct {
		m   M
		err error
	}
	return func() (M, error) {
		c := make(chan heard, 1)
		go func() {
			m, err := recv()
			c <- heard{m, err}
		}()
		late := time.NewTimer(limit)
		defer late.Stop()
		select {
		case h := <-c:
			return h.m, h.err
		case <-late.C:
			return *new(M), fmt.Errorf("%w for %v", ErrSilent, limit)
		}
	}
}

// asCall is how a call ends whose stream did.
func asCall(err error) error {
	if errors.Is(err, ErrSilent) {
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return err
}

// upload reads the bytes of a stream of requests. One that breaks is an error, so that
// half a file is never taken for a whole one.
type upload[M interface{ GetData() []byte }] struct {
	next func() (M, error)
	rest []byte
}

func uploaded[M interface{ GetData() []byte }](first M, next func() (M, error)) *upload[M] {
	return &upload[M]{next, first.GetData()}
}

func (u *upload[M]) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		m, err := u.next()
		if err != nil {
			return 0, err // io.EOF: the caller has sent all of it
		}
		u.rest = m.GetData()
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// nothing is an endless reader of zeros.
type nothing struct{}

func (nothing) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

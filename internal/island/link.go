package island

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// redialEvery is the pause between two attempts to get a broken stream back.
const redialEvery = 500 * time.Millisecond

// Events that the link delivers beside messages.
type (
	reconnected struct{}
	lost        struct{ err error }
)

// link is the session with the coordinator and syncer. A broken stream is dialled
// again for patience; the learner trains on meanwhile, as far as its samples reach.
type link struct {
	join     wire.Join
	hello    *wire.Hello
	patience atomic.Int64 // nanoseconds
	log      *slog.Logger
	in       chan any        // transport.Down, reconnected or lost
	first    *transport.Down // has come before anybody listened; nil: nothing has

	mu   sync.Mutex
	conn *transport.Conn
	kept []*wire.FromLearner // what every session begins with
	told int                 // of kept, on conn
}

// waitToEnter is the pause before a run that cannot take an island yet is asked again.
const waitToEnter = 250 * time.Millisecond

// enter is dial for an island that comes for the first time. A run that tells it to come
// again is asked until it has an answer; a further host of an island, which comes in an
// incarnation that is there, takes that answer back to its ranks. Once the coordinator is
// known to be there it may be gone for patience: between the first weights of a run and its
// first era it is.
func enter(ctx context.Context, join wire.Join, hello *wire.Hello, known bool, patience time.Duration, log *slog.Logger) (*link, error) {
	said, heard := "", time.Time{}
	if known {
		heard = time.Now()
	}
	for {
		k, err := dial(ctx, join, hello, patience, log)
		if err == nil {
			var m transport.Down
			m, err = k.answer(ctx)
			if no := m.GetRejected(); err == nil && no != nil && !no.Retry {
				k.close()
				return nil, refused(join, no.Reason)
			}
			if err == nil && (hello.Part > 0 || !m.GetRejected().GetRetry()) {
				k.first = &m
				k.welcomed(m.GetWelcome())
				return k, nil
			}
			k.close()
			if err == nil {
				heard = time.Now()
				if why := m.GetRejected().Reason; why != said {
					said = why
					log.Warn("waits", "reason", why) // a trainer shows no more than warnings unless it is told to
				}
			}
		}
		if err != nil && (errors.Is(err, ErrExpelled) || heard.IsZero() || time.Since(heard) > patience) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(waitToEnter):
		}
	}
}

// refusal: the run does not take this island as it is. What is wrong is with who started
// it: the join string, the name, the model.
type refusal struct{ *fault.Input }

func (r refusal) Is(target error) bool { return target == ErrExpelled }

func (r refusal) Unwrap() error { return r.Input }

func refused(join wire.Join, why string) error {
	return refusal{&fault.Input{Where: fmt.Sprintf("joining run %s at %s", join.RunID, join.Address), Problem: why}}
}

// answer is what the coordinator says first.
func (k *link) answer(ctx context.Context) (transport.Down, error) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	m, err := k.conn.Recv(ctx)
	switch {
	case errors.Is(err, transport.ErrClosed) || errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: %w", ErrExpelled, err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("the coordinator at %s has not answered within %v: %w", k.join.Address, joinPatience, err)
	}
	return m, err
}

func dial(ctx context.Context, join wire.Join, hello *wire.Hello, patience time.Duration, log *slog.Logger) (*link, error) {
	conn, err := transport.Dial(ctx, join, hello)
	if err != nil {
		return nil, fmt.Errorf("joining %s: %w", join.Redacted(), err)
	}
	k := &link{join: join, hello: hello, log: log, in: make(chan any, 64), conn: conn}
	k.patience.Store(int64(patience))
	return k, nil
}

// welcomed is who somebody from outside is from here on: what a broken stream is opened
// again with, and what calls beside it go under.
func (k *link) welcomed(w *wire.Welcome) {
	if w == nil || w.Secret == "" || k.join.Incarnation != 0 && k.hello.Part == 0 {
		return
	}
	o := k.conn.Origin()
	k.join.Era, k.join.Incarnation, k.join.Island = o.GetEra(), o.GetIncarnation(), w.GetIsland()
	k.join.Secret, k.join.Token, k.hello.Island = w.GetSecret(), "", w.GetIsland()
}

// recalled is how an island comes back whose incarnation is closed.
func (k *link) recalled(why string) *Recalled {
	return &Recalled{k.join.Island, why, k.join.Secret, time.Duration(k.patience.Load())}
}

// send queues a message. What cannot be sent now is either repeated after the
// stream is back (contributions, leases) or out of date by then (progress).
func (k *link) send(body *wire.FromLearner, payload []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.tell(); err != nil {
		k.log.Debug("not_sent", "err", err)
		return
	}
	if err := k.conn.Send(transport.Up{FromLearner: body, Payload: payload}); err != nil {
		k.log.Debug("not_sent", "err", err)
	}
}

// moved grows while payloads come or go.
func (k *link) moved() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conn.Moved()
}

// reuse gives back the memory of a payload that has come and that nobody reads any more.
func (k *link) reuse(payload []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn.Reuse(payload)
}

// keep sends a message that nothing sent later may overtake: it is said again at the
// beginning of every further session.
func (k *link) keep(body *wire.FromLearner) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, body)
	if err := k.tell(); err != nil {
		k.log.Debug("not_sent", "err", err)
	}
}

// tell sends what is kept and was not said on this session; mu is held.
func (k *link) tell() error {
	for k.told < len(k.kept) {
		if err := k.conn.Send(transport.Up{FromLearner: k.kept[k.told]}); err != nil {
			return err
		}
		k.told++
	}
	return nil
}

// receive delivers what comes until ctx ends or the coordinator cannot be found
// again.
func (k *link) receive(ctx context.Context) {
	defer close(k.in)
	if k.first != nil {
		k.deliver(ctx, *k.first)
	}
	for ctx.Err() == nil {
		m, err := k.conn.Recv(ctx)
		if err == nil {
			k.deliver(ctx, m)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err := k.redial(ctx, err); err != nil {
			k.deliver(ctx, lost{err})
			return
		}
		k.deliver(ctx, reconnected{})
	}
}

func (k *link) deliver(ctx context.Context, m any) {
	select {
	case k.in <- m:
	case <-ctx.Done():
	}
}

// redial gets the session back under the same incarnation. A coordinator that
// closed it with a reason is not asked again. One that was there all the time takes no
// further host of an island back: its ranks hear then that all hosts are to join again.
func (k *link) redial(ctx context.Context, cause error) error {
	if errors.Is(cause, transport.ErrClosed) || errors.Is(cause, io.EOF) {
		return fmt.Errorf("%w: %w", ErrExpelled, cause)
	}
	k.log.Warn("stream_lost", "err", cause)
	patience := time.Duration(k.patience.Load())
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	hello := proto.Clone(k.hello).(*wire.Hello)
	hello.Reconnect = true
	for {
		conn, err := transport.Dial(ctx, k.join, hello)
		if err == nil {
			k.mu.Lock()
			old := k.conn
			k.conn, k.told = conn, 0
			k.tell() //nolint:errcheck // the next message tries again
			k.mu.Unlock()
			old.Close() //nolint:errcheck // it is broken already
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the coordinator at %s did not come back within %v: %w", k.join.Address, patience, cause)
		case <-time.After(redialEvery):
		}
	}
}

// close sends what is queued and ends the session.
func (k *link) close() {
	k.mu.Lock()
	conn := k.conn
	k.mu.Unlock()
	if err := conn.Close(); err != nil {
		k.log.Debug("closed", "err", err)
	}
}

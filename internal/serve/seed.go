package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// seeding is the time before a run whose first weights are with an island: the port is
// open, the island marked seed may upload them, and everybody else is told to wait.
// Nothing is on the tape yet, so that a coordinator that is killed here begins again.
type seeding struct {
	op     *opened
	emit   func(ledger.Event)
	dir    string // of the run, as the user gave it
	island string // that brings the weights
	landed chan struct{}
	hellos chan struct{} // takes one: the island is back after its upload

	mu   sync.Mutex
	busy bool
	run  *runfile.Run // once they are here
}

// awaitSeed waits for the first weights, and gives the run the tensors that they have.
func (op *opened) awaitSeed(ctx context.Context, o Options) error {
	s := &seeding{op: op, dir: o.Dir, emit: o.Emit, landed: make(chan struct{}), hellos: make(chan struct{}, 1)}
	if s.emit == nil {
		s.emit = func(ledger.Event) {}
	}
	s.island = op.run.Islands[slices.IndexFunc(op.run.Islands, func(i runfile.Island) bool { return i.Seed })].Name
	op.secret = randomName(16)
	listeners, err := op.openPorts(ctx)
	if err != nil {
		return err
	}
	server := transport.New(transport.Options{RunID: op.runID, Era: op.era, View: firstView, Allow: op.allowHello, Seed: s, Desk: s}, s)
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	s.say("waiting for the first weights from island " + s.island)
	op.tellJoins(s.emit)
	op.early = newForerunners(op, o)
	err = op.early.start()
	if err == nil {
		select {
		case <-s.landed:
			s.heard(ctx)
		case err = <-op.early.given:
		case err = <-failed:
			failed <- err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	server.Close()
	for range listeners {
		if served := <-failed; err == nil && served != nil {
			err = fmt.Errorf("serving the islands: %w", served)
		}
	}
	if err != nil {
		op.early.end()
		return err
	}
	op.run = *s.run
	return nil
}

// Allow implements transport.Desk: credentials are those of the run to come.
func (s *seeding) Allow(who *wire.Credentials) string {
	return s.op.allow(who.GetSecret(), who.GetToken())
}

var errNotBegun = errors.New("the run has not begun: it waits for its first weights")

// Fetch implements transport.Desk.
func (s *seeding) Fetch(context.Context, *wire.Credentials, string) (transport.File, error) {
	return nil, errNotBegun
}

// Store implements transport.Desk.
func (s *seeding) Store(context.Context, *wire.Credentials, string, uint64, io.Reader) (*wire.StoreReply, error) {
	return nil, errNotBegun
}

// Status implements transport.Desk: nobody trains, and why.
func (s *seeding) Status(context.Context) ([]byte, error) {
	return json.Marshal(ledger.Fleet{
		RunID: s.op.runID, Dir: s.dir, Era: s.op.era, GoalTokens: int64(s.op.run.Tokens), Versions: []uint64{}, OwnData: s.op.run.Data.Own, Islands: []ledger.Member{},
		Waiting: "the run has not begun: it waits for its first weights from island " + s.island,
	})
}

func (s *seeding) say(text string) { s.emit(ledger.Note{At: time.Now(), Text: text}) }

// Hello implements transport.Handler: whoever comes is to come again.
func (s *seeding) Hello(p *transport.Peer, hello *wire.Hello, _ *wire.Origin) {
	s.mu.Lock()
	begun := s.run != nil
	s.mu.Unlock()
	if !begun {
		p.Reject(fmt.Sprintf("the run has no first weights yet: they are with island %s (seed: true)", s.island), true)
		return
	}
	p.Reject("the run begins", true)
	if hello.Island == s.island {
		select {
		case s.hellos <- struct{}{}:
		default:
		}
	}
}

// heard waits until the island has the answer to its upload: it says hello then. One that
// is gone meanwhile is started again by the run.
func (s *seeding) heard(ctx context.Context) {
	select {
	case <-s.hellos:
	case <-ctx.Done():
	case <-time.After(dismissPatience):
	}
}

// Received implements transport.Handler.
func (s *seeding) Received(*transport.Peer, transport.Up) {}

// Gone implements transport.Handler.
func (s *seeding) Gone(*transport.Peer, error) {}

var (
	_ transport.Handler  = (*seeding)(nil)
	_ transport.SeedSink = (*seeding)(nil)
	_ transport.Desk     = (*seeding)(nil)
)

// Wanted implements transport.SeedSink.
func (s *seeding) Wanted(island string) error {
	if island != "" && island != s.island {
		return fmt.Errorf("the first weights are with island %s (seed: true in the run file), not with %s", s.island, island)
	}
	return nil
}

// Take implements transport.SeedSink: one upload at a time, and once.
func (s *seeding) Take(ctx context.Context, island string, file io.Reader) (digest string, err error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	run, digest, err := s.store(ctx, file)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if err != nil {
		s.say(fmt.Sprintf("the first weights from island %s are not taken: %v", s.island, err))
		return "", err
	}
	s.run = &run
	close(s.landed)
	s.say(fmt.Sprintf("first weights from island %s: %d tensors, %s parameters", s.island, len(run.Table()), ledger.Amount(float64(run.Size()))))
	return digest, nil
}

// enter makes the caller's upload the only one.
func (s *seeding) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.run != nil:
		return transport.ErrSeeded
	case s.busy:
		return errors.New("another upload of the first weights is under way")
	}
	s.busy = true
	return nil
}

// store checks names, shapes, types and room by the header, and stores the file once all
// of it is here and finite.
func (s *seeding) store(ctx context.Context, file io.Reader) (run runfile.Run, digest string, err error) {
	in, err := store.OpenIncoming(file)
	if err != nil {
		return run, "", fmt.Errorf("no safetensors file: %w", err)
	}
	if run, err = s.model(in); err != nil {
		return run, "", err
	}
	sized := opened{run: run}
	if err := store.CheckSpace(ctx, s.op.store, sized.saveBytes()+in.Bytes(), run.Checkpoint.Keep); err != nil {
		return run, "", err
	}
	if err := CheckMemory(Options{Run: run, Outside: s.op.outside, Listen: s.op.listening}); err != nil {
		return run, "", err
	}
	o, err := s.op.store.Put(ctx, SeedName, in.CopyFinite)
	return run, o.SHA256, err
}

// model is the run of what comes in: the tensors are those of the run file, or else
// become the run's.
func (s *seeding) model(in *store.Incoming) (runfile.Run, error) {
	run := s.op.run
	if len(run.Model.Tensors) == 0 {
		return withTensors(run, in.Tensors, in.Meta)
	}
	state, err := stateOf(in.Meta)
	if err != nil {
		return run, err
	}
	var own []model.Named
	for _, t := range in.Tensors {
		own = append(own, model.Named{Name: t.Name, Shape: t.Shape, State: state[t.Name]})
	}
	return run, model.Unlike(run.Table(), own)
}

// seeded is what an upload meets once the run has begun.
type seeded struct{ run runfile.Run }

var _ transport.SeedSink = seeded{}

// Take implements transport.SeedSink.
func (s seeded) Take(_ context.Context, island string, _ io.Reader) (string, error) {
	return "", s.Wanted(island)
}

// Wanted implements transport.SeedSink.
func (s seeded) Wanted(string) error {
	if s.run.Model.From == runfile.FromSeed {
		return transport.ErrSeeded
	}
	return &fault.Input{
		Where: "seed", Problem: "this run does not begin with the weights of an island",
		Next: "leave seed=True out, or start a run with model.from: seed",
	}
}

package island

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// follower is a further host of an island. The first host decides; what it orders comes here by
// way of the ranks, which do the same at the same boundary everywhere. A follower hears the same
// verdicts and fragments, keeps the anchors of what its ranks hold, and sends its part of each
// contribution.
type follower struct {
	link    *link
	crew    *crew
	holding *holding
	probes  *probes
	state   partState
	fail    context.CancelCauseFunc // ends this host, and the island with it
	log     *slog.Logger
	run     runfile.Run
	gate    *question      // not whole yet
	asked   sync.WaitGroup // probes that ranks have yet to compute
	work    sync.WaitGroup

	mu        sync.Mutex // guards fragments' fields; nothing of holding is called under it
	fragments []*followed
	missing   int // of them without a first value; the loop's own

	leaving sync.Once
	gone    chan struct{} // closed when all ranks have gone, as they may
}

// followPatience is how long a follower whose ranks have gone waits for the word that the
// island has ended: until then the island would lose a host.
const followPatience = 5 * time.Second

// follow is the session of a further host.
func (r *runner) follow(ctx context.Context, o Options, hello *wire.Hello) error {
	join := o.Join
	join.Incarnation = r.crew.ranks[0].Hello.Incarnation
	k, err := enter(ctx, join, hello, o.Patience > 0, cmp.Or(o.Patience, beginPatience), o.Logger)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	life, fail := context.WithCancelCause(ctx)
	stop := func() { fail(nil) }
	wg.Go(func() { k.receive(life) })
	defer k.close()
	defer wg.Wait()
	f := &follower{link: k, crew: r.crew, fail: fail, log: o.Logger, gone: make(chan struct{})}
	defer func() { closeStore(f.state.store) }()
	defer f.asked.Wait() // which nobody may ever order
	defer stop()
	defer f.work.Wait()
	if err := f.enter(life, o.Version); err != nil {
		return err
	}
	return f.loop(life)
}

// enter waits for the welcome and lets the ranks in. The weights follow.
func (f *follower) enter(ctx context.Context, version string) error {
	waiting, cancel := context.WithTimeoutCause(ctx, joinPatience, fmt.Errorf("the coordinator's welcome did not come within %v", joinPatience))
	defer cancel()
	for {
		m, err := f.next(waiting, nil)
		if err != nil {
			return err
		}
		if m.GetWelcome() != nil {
			return f.welcomed(ctx, m, version)
		}
	}
}

// welcomed makes what the welcome calls for.
func (f *follower) welcomed(ctx context.Context, m transport.Down, version string) (err error) {
	w, join := m.GetWelcome(), f.link.join
	if f.run, err = runOf(m); err != nil {
		return err
	}
	f.link.patience.Store(int64(f.run.Limits.RunwaySeconds * float64(time.Second)))
	if f.state.store, err = openStore(w, join); err != nil {
		return err
	}
	tellWay(ctx, f.state.store, join, f.log)
	if f.holding, err = f.crew.hold(ctx, w, &runner{run: f.run, version: version, island: join.Island, outside: true}, join); err != nil {
		return err
	}
	f.holding.taken, f.probes = f.taken, &probes{holding: f.holding, seed: f.run.Seed}
	f.state.keeping, f.state.saved = newKeeping(f.holding, f.run.Table()), w.Restore
	for _, fr := range f.holding.fragments {
		f.fragments = append(f.fragments, &followed{anchor: make([]float32, fr.Size)})
	}
	f.missing = len(f.fragments)
	return f.crew.welcome(ctx, false, 0, f.hear)
}

// next waits for a message, or for the ranks to be gone.
func (f *follower) next(ctx context.Context, gone <-chan struct{}) (transport.Down, error) {
	for {
		select {
		case m, ok := <-f.link.in:
			m, err := heard(ctx, m, ok)
			if err != nil {
				return transport.Down{}, err
			}
			if down, ok := m.(transport.Down); ok {
				return down, f.link.turnedAway(down)
			}
		case <-gone:
			return transport.Down{}, errGone
		case <-ctx.Done():
			return transport.Down{}, context.Cause(ctx)
		}
	}
}

// turnedAway is why the coordinator ends the session of a further host, or nil.
func (k *link) turnedAway(m transport.Down) error {
	switch no := m.GetRejected(); {
	case no == nil:
		return nil
	case no.Retry:
		return k.recalled(no.Reason)
	default:
		return fmt.Errorf("%w: %s", ErrExpelled, no.Reason)
	}
}

// errGone: the ranks have left in order.
var errGone = errors.New("the ranks have left")

// loop takes what comes until the island's life is over.
func (f *follower) loop(ctx context.Context) error {
	gone, departed, stopped := (<-chan struct{})(f.gone), false, false
	for {
		m, err := f.next(ctx, gone)
		switch {
		case err != nil && departed:
			return nil
		case err != nil && stopped && !errors.Is(err, errGone): // the coordinator was the first to go
			return f.farewell(ctx)
		case errors.Is(err, errGone) && stopped:
			return nil
		case errors.Is(err, errGone):
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, followPatience)
			defer cancel()
			gone, departed = nil, true
			continue
		case err != nil && f.missing > 0:
			return f.probes.unanswered(err)
		case err != nil:
			return err
		}
		if f.atGate(m) {
			continue
		}
		switch b := m.Body.(type) {
		case *wire.ToLearner_Fragment:
			err = f.install(b.Fragment, m)
		case *wire.ToLearner_Verdict:
			err = f.verdict(b.Verdict, m)
		case *wire.ToLearner_Capture:
			f.capture(ctx, b.Capture)
		case *wire.ToLearner_Stop:
			stopped = true
			f.part(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// farewell waits for the ranks to go.
func (f *follower) farewell(ctx context.Context) error {
	select {
	case <-f.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// part lets the ranks go, and notes when they have gone.
func (f *follower) part(ctx context.Context) {
	f.leaving.Do(func() {
		f.crew.Part()
		f.work.Go(func() {
			if f.crew.Gone(ctx) == nil {
				close(f.gone)
			}
		})
	})
}

// hear takes what a rank says; ranks call it at the same time.
func (f *follower) hear(r *attach.Rank, m any) error {
	switch m := m.(type) {
	case *attach.Fetch:
		return f.holding.fetch(r, m)
	case *attach.Adopted:
		return f.holding.adopted(r, m)
	case *attach.Gated:
		return f.probes.hear(r, m)
	case *attach.Gathered:
		all, err := f.holding.gather(r, m)
		if all {
			f.gathered(m)
		}
		return err
	case *attach.Slot:
		return f.slot(r, m)
	case *attach.Load:
		return f.load(r, m)
	case *attach.Kept:
		return f.state.keeping.kept.say(r, m)
	case *attach.Bye:
		f.part(f.holding.life)
		return nil
	}
	return senseless("rank %d says %T on a host that is not the first", r.Hello.Rank, m)
}

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
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/outer"
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

	leaving sync.Once
	gone    chan struct{} // closed when all ranks have gone, as they may
}

// followed is a fragment as a follower knows it.
type followed struct {
	anchor   []float32 // the syncer's value as the ranks have taken it last
	seed     []float32 // the value that it began with, until a saved state is taken over; nil: none is
	seeded   uint64    // its version
	sequence uint64    // of the contribution that was gathered last
	message  *wire.Contribution
	payload  []byte    // nil while it is made
	sent     []float32 // where the ranks were, as the syncer sees it
	made     bool      // sent and payload are those of sequence
	early    *early    // nil: no verdict waits
	work     sync.WaitGroup
}

// early is a verdict about a contribution that this host's ranks have not given their part of
// yet: where all that it holds is a replica the others' parts are enough for a merge.
type early struct {
	sequence uint64
	delivery *delivery
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
	ready := &wire.Ready{}
	seeds := make([][][]byte, len(f.fragments))
	gone, departed, stopped := (<-chan struct{})(f.gone), false, false
	for missing := len(seeds); ; {
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
		case err != nil && missing > 0:
			return f.probes.unanswered(err)
		case err != nil:
			return err
		}
		if f.atGate(m) {
			continue
		}
		switch b := m.Body.(type) {
		case *wire.ToLearner_Fragment:
			value, err := f.seed(b.Fragment, m)
			if err != nil {
				return err
			}
			p := b.Fragment.Fragment
			if missing == 0 || seeds[p] != nil {
				continue
			}
			f.mu.Lock()
			if f.fragments[p].seeded = b.Fragment.Version; f.state.saved != nil {
				f.fragments[p].seed = value
			}
			f.mu.Unlock()
			seeds[p] = f.holding.fragments[p].Digests(value)
			if missing--; missing == 0 {
				for _, digests := range seeds {
					ready.TensorDigest = append(ready.TensorDigest, digests...)
				}
				f.link.send(&wire.FromLearner{Body: &wire.FromLearner_Ready{Ready: ready}}, nil)
			}
		case *wire.ToLearner_Verdict:
			if err := f.verdict(b.Verdict, m); err != nil {
				return err
			}
		case *wire.ToLearner_Capture:
			f.capture(ctx, b.Capture)
		case *wire.ToLearner_Stop:
			stopped = true
			f.part(ctx)
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

// gathered makes this host's part of a contribution out of what its ranks have given.
func (f *follower) gathered(g *attach.Gathered) {
	p, h := g.Fragment, f.holding
	at, boxes := f.fragments[p], h.own(p)
	at.work.Wait()
	h.forgetAdoptions(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	at.sequence, at.payload, at.made = g.Sequence, nil, false
	at.sent = reuse(at.sent, len(at.anchor))
	at.message = &wire.Contribution{
		Fragment: uint32(p), Sequence: g.Sequence, ToStep: f.state.steps + g.Step,
		Part: uint32(h.control().Hello.Part), Parts: uint32(h.hosts()), Boxes: layout.BoxesToWire(boxes),
	}
	at.work.Add(1)
	f.work.Go(func() {
		f.makePart(p, boxes)
		f.deliver(p)
	})
}

// makePart computes this host's part of the contribution and sends it.
func (f *follower) makePart(p int, boxes []layout.Box) {
	at, h := f.fragments[p], f.holding
	defer at.work.Done()
	h.collect(p, at.sent)
	payload := h.frames[p].Append(nil, difference(make([]float32, len(at.sent)), at.anchor, at.sent), boxes...)
	f.mu.Lock()
	defer f.mu.Unlock()
	at.payload, at.made = payload, true
	f.sendPart(at)
}

// deliver offers the ranks the verdict about the part that is made, if it is there.
func (f *follower) deliver(p int) {
	at := f.fragments[p]
	f.mu.Lock()
	e := at.early
	if e == nil || !at.made || e.sequence != at.sequence {
		f.mu.Unlock()
		return
	}
	at.early, e.delivery.sent = nil, at.sent
	f.mu.Unlock()
	f.holding.deliver(p, e.delivery)
}

// differenceBlock is how many elements are worked on while they are in the core's cache.
const differenceBlock = 4096

// difference fills delta with the pseudo-gradient; sent becomes what the syncer will see of the weights.
func difference(delta, anchor, sent []float32) []float32 {
	for from := 0; from < len(sent); from += differenceBlock {
		to := min(from+differenceBlock, len(sent))
		outer.PseudoGradient(delta[from:to], anchor[from:to], sent[from:to])
		outer.Sent(sent[from:to], anchor[from:to], delta[from:to])
	}
	return delta
}

// sendPart sends a part that is made, unless this host has none; mu is held.
func (f *follower) sendPart(at *followed) {
	if at.payload != nil && len(at.message.Boxes) > 0 {
		f.link.send(&wire.FromLearner{Body: &wire.FromLearner_Contribution{Contribution: at.message}}, at.payload)
	}
}

// seed offers the syncer's value of a fragment to the ranks.
func (f *follower) seed(fr *wire.Fragment, m transport.Down) ([]float32, error) {
	value, err := f.decode(fr.Fragment, m)
	if err == nil {
		f.holding.deliver(int(fr.Fragment), &delivery{op: attach.Install, version: fr.Version, value: value})
	}
	return value, err
}

func (f *follower) decode(p uint32, m transport.Down) ([]float32, error) {
	if int(p) >= len(f.fragments) || m.Damaged {
		return nil, fmt.Errorf("fragment %d of %d came damaged or does not exist", p, len(f.fragments))
	}
	value := make([]float32, len(f.fragments[p].anchor))
	if err := wire.DecodeF32(value, m.Payload); err != nil {
		return nil, fmt.Errorf("fragment %d: %w", p, err)
	}
	return value, nil
}

// verdict offers the merged value to the ranks, or sends the part again. One that comes again, of
// a later version, is what the first host adopts when it had lost the one before.
func (f *follower) verdict(v *wire.Verdict, m transport.Down) error {
	if int(v.Fragment) >= len(f.fragments) {
		return nil
	}
	p := int(v.Fragment)
	f.mu.Lock()
	at := f.fragments[p]
	over := at.sequence > v.Sequence
	if v.Ruling == wire.Ruling_RESEND && at.sequence == v.Sequence {
		f.sendPart(at)
	}
	f.mu.Unlock()
	if over || v.Ruling == wire.Ruling_REFUSED || v.Ruling == wire.Ruling_RESEND {
		return nil
	}
	value, err := f.decode(v.Fragment, m)
	if err != nil {
		return err
	}
	f.mu.Lock()
	at.early = &early{v.Sequence, &delivery{op: attach.Adopt, version: v.Version, value: value}}
	f.mu.Unlock()
	f.deliver(p)
	return nil
}

// taken: all ranks of this host have taken a value. It is the anchor of what they gather next;
// a contribution under way finds itself there when it was installed.
func (f *follower) taken(p int, d *delivery) {
	if d.probe {
		return
	}
	at := f.fragments[p]
	at.work.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(at.anchor, d.value)
	if d.op == attach.Install && at.sent != nil {
		copy(at.sent, d.value)
	}
}

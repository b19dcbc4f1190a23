package island

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/footprint"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// joinPatience bounds each wait on the way into a run, at the least: for the coordinator's
// next word, or a fragment of the weights; and for what the ranks of a trainer do. Bytes of
// weights that come begin it anew. The coordinator bounds all of it together in the same way,
// by limits.first_step_seconds.
const joinPatience = 5 * time.Minute

// patient bounds one such wait, and says for what it was.
func (r *runner) patient(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	limit := max(joinPatience, time.Duration(r.run.Limits.FirstStepSeconds*float64(time.Second)))
	return whileMoving(ctx, r.link.moved, limit, fmt.Errorf("%s did not come within %v", what, limit))
}

// whileMoving ends ctx for why once moved has not changed for limit.
func whileMoving(ctx context.Context, moved func() int64, limit time.Duration, why error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	seen := moved()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(limit):
			}
			now := moved()
			if now == seen {
				cancel(why)
				return
			}
			seen = now
		}
	}()
	return ctx, func() { cancel(nil) }
}

// beginPatience is how long a coordinator may be away that is about to begin its run.
const beginPatience = 10 * time.Second

// errDismissed: the run ended before this island had begun.
var errDismissed = errors.New("the run is over")

// enter waits for Welcome and every fragment, installs them, restores what was
// saved and says Ready.
func (r *runner) enter(ctx context.Context, join wire.Join) error {
	welcome, err := r.seeded(ctx, join)
	if err != nil {
		return err
	}
	stamp := r.learner.clock.stamp
	switch {
	case welcome.Restore.GetMomentsOnly():
		r.learner.joinSteps = 0 // unless there are second moments
		r.learner.restore(ctx, r.store, welcome.Restore, r.joinedWith)
	case welcome.Restore != nil:
		r.learner.restore(ctx, r.store, welcome.Restore, r.restored)
	case stamp > 0:
		r.learner.joinSteps = 0
	}
	if r.broken != nil {
		return r.broken
	}
	if err := r.welcomeCrew(ctx, welcome, r.learner.position); err != nil {
		return err
	}
	r.report(StepStats{}, 0)
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Ready{Ready: r.learner.ready()}}, nil)
	r.log.Info("ready", "run", join.RunID, "island", r.island, "numeric", r.numeric, "stamp_tokens", stamp, "position_samples", r.learner.position)
	return nil
}

// seeded waits for Welcome and every fragment, installs them, and answers at the gate.
func (r *runner) seeded(ctx context.Context, join wire.Join) (welcome *wire.Welcome, err error) {
	for seeded := 0; welcome == nil || seeded < len(r.learner.fragments); {
		down, err := r.word(ctx)
		if err != nil {
			return nil, err
		}
		if taken, err := r.atGate(ctx, down, welcome); taken || err != nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		switch b := down.Body.(type) {
		case *wire.ToLearner_Welcome:
			welcome = b.Welcome
			if err := r.prepare(ctx, down, join); err != nil {
				return nil, err
			}
			if x, ok := r.learner.trainer.(*external); ok && x.holding.hosts() > 1 { // the other hosts enter by what its ranks hear
				if err := r.crew.welcome(ctx, false, 0, x.hear); err != nil {
					return nil, err
				}
			}
		case *wire.ToLearner_Fragment:
			if welcome == nil {
				return nil, errors.New("a fragment came before the welcome")
			}
			if err := r.install(down); err != nil {
				return nil, err
			}
			seeded++
		default:
			if r.note(down); r.stopped {
				return nil, errDismissed
			}
		}
	}
	return welcome, nil
}

// word is the coordinator's next one on the way in.
func (r *runner) word(ctx context.Context) (transport.Down, error) {
	ctx, cancel := r.patient(ctx, "the coordinator's next word")
	defer cancel()
	for {
		m, err := r.next(ctx)
		if err != nil {
			return transport.Down{}, err
		}
		if down, ok := m.(transport.Down); ok {
			return down, nil
		}
	}
}

// install puts the syncer's value of a fragment in place of the learner's own.
func (r *runner) install(m transport.Down) error {
	fr := m.GetFragment()
	value, err := r.valueOf(fr, m)
	if err != nil {
		return err
	}
	return r.learner.seed(int(fr.Fragment), fr.Version, int64(fr.StampTokens), value)
}

// prepare opens what the welcome names, and makes the learner.
func (r *runner) prepare(ctx context.Context, m transport.Down, join wire.Join) error {
	w := m.GetWelcome()
	run, err := runOf(m)
	if err != nil {
		return err
	}
	r.run, r.pacer, r.island = run, pacer{pace: 1}, join.Island
	if r.outside { // the end of one that was started here is seen by its parent
		r.link.patience.Store(int64(run.Limits.RunwaySeconds * float64(time.Second)))
	}
	if r.store, err = openStore(w, join); err != nil {
		return err
	}
	tellWay(ctx, r.store, join, r.log)
	var t trainer
	if r.crew != nil {
		t, err = r.external(w, join)
	} else {
		t, err = r.native(ctx, w, join)
	}
	if err != nil {
		return err
	}
	r.learner = newLearner(run, t)
	return nil
}

// runOf is the resolved run that a welcome brings, in its frame or behind it.
func runOf(m transport.Down) (runfile.Run, error) {
	text := m.GetWelcome().GetRunYaml()
	if len(text) == 0 {
		text = m.Payload
	}
	run, err := runfile.Parse("welcome", text)
	if err == nil {
		run, err = run.Resolve()
	}
	if m.Damaged {
		err = errors.New("it came damaged")
	}
	if err != nil {
		return run, fmt.Errorf("run file from the coordinator: %w", err)
	}
	return run, nil
}

// native makes the engine of this program, for the run's data.
func (r *runner) native(ctx context.Context, w *wire.Welcome, join wire.Join) (*native, error) {
	threads, emulated := machine.CPUs(), "" // a host of its own, unless the run file says more
	for _, i := range r.run.Islands {
		if i.Name == r.island {
			r.pacer.pace, emulated, r.layout = i.Pace, i.Numeric, nativeLayout(i).String()
			threads = cmp.Or(i.Threads, threads)
			if !r.outside {
				threads = footprint.Threads(r.run, i)
			}
		}
	}
	var err error
	if r.data, err = openData(ctx, w, join, r.ownData); err != nil {
		return nil, err
	}
	profile, err := numeric.Find(emulated)
	if err != nil {
		return nil, err
	}
	n, err := newNative(r.run, r.data, threads, r.kernel, profile)
	if err != nil {
		return nil, err
	}
	n.spoil, n.faults, r.numeric = r.spoil, r.faults, n.engine.Numeric()
	return n, nil
}

// nativeLayout is on what the native engine computes under a name of the run file, which may
// have meant a trainer.
func nativeLayout(i runfile.Island) runfile.Layout {
	if i.Engine != "" && i.Engine != runfile.Native {
		return runfile.Layout{Engine: runfile.Native, Numeric: i.Numeric, Pace: i.Pace}
	}
	return i.Layout()
}

// external makes the ranks of the crew a trainer.
func (r *runner) external(w *wire.Welcome, join wire.Join) (*external, error) {
	h, err := r.crew.hold(r.asides.life, w, r, join)
	if err != nil {
		return nil, err
	}
	first := r.crew.ranks[0].Hello
	r.numeric, r.layout = first.Device, r.crewLayout(first).String()
	return &external{
		run: r.run, crew: r.crew.Crew, holding: h, keeping: newKeeping(h, r.run.Table()), probes: &probes{holding: h, seed: r.run.Seed}, rows: r.rowsOf(w, join), asides: r.asides, log: r.log, ownRate: first.OwnRate, trained: map[int]bool{},
		gathered: r.gathered, validate: r.validated, unmeasured: r.unmeasured,
		leave: func(reason string) {
			r.log.Info("trainer_leaves", "reason", reason)
			r.leaving = true
		},
	}, nil
}

// crewLayout is on what the ranks compute: what they say, and what the run file asked for.
func (r *runner) crewLayout(first *attach.Hello) runfile.Layout {
	l := runfile.Layout{Engine: first.Engine}
	for _, i := range r.run.Islands {
		if i.Name == r.island {
			l = i.Layout()
		}
	}
	l.Device, l.Ranks, l.Hosts = first.Device, first.World, first.Parts
	return l
}

// welcomeCrew lets an external trainer's ranks in, if they are not in.
func (r *runner) welcomeCrew(ctx context.Context, w *wire.Welcome, position int64) error {
	x, ok := r.learner.trainer.(*external)
	if !ok || r.crew.welcomed {
		return nil
	}
	return r.crew.welcome(ctx, w.Restore != nil, position, x.hear)
}

// ready reports what the syncer sent, so that it can be compared (A1).
func (l *Learner) ready() *wire.Ready {
	r := &wire.Ready{}
	for _, f := range l.fragments {
		r.Version = append(r.Version, f.version)
		r.TensorDigest = append(r.TensorDigest, f.Digests(f.anchor)...)
	}
	return r
}

// restored tells what became of the saved state. An island that cannot take it over
// does not train.
func (r *runner) restored(got *wire.Restored, err error) {
	if err != nil {
		r.broken = err
		return
	}
	r.tellRestored(got)
}

// joinedWith tells what became of a peer's moments. A joiner can do without.
func (r *runner) joinedWith(got *wire.Restored, err error) {
	if err != nil {
		r.log.Warn("moments_not_taken", "err", err)
		r.learner.forgetMoments()
		got = &wire.Restored{Remarks: []string{"moments begin at zero, and the rate rises: " + err.Error()}}
	}
	r.tellRestored(got)
}

func (r *runner) tellRestored(got *wire.Restored) {
	got.Layout = r.layout
	r.link.keep(&wire.FromLearner{Body: &wire.FromLearner_Restored{Restored: got}})
}

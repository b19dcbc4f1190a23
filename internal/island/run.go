package island

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/footprint"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// An island shows that it is alive every second, or more often where less than a
// few seconds of silence count as death.
const (
	heartbeatEvery   = time.Second
	heartbeatsMissed = 5 // at least, before it is taken for dead
)

// joinPatience bounds each wait on the way into a run, at the least: for the coordinator's
// next word, or a fragment of the weights; and for what the ranks of a trainer do. All of it
// together may take as long as weights and tokens of the model's size take on this way: the
// coordinator bounds it by limits.first_step_seconds.
const joinPatience = 5 * time.Minute

// patient bounds one such wait, and says for what it was.
func (r *runner) patient(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	limit := max(joinPatience, time.Duration(r.run.Limits.FirstStepSeconds*float64(time.Second)))
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s did not come within %v", what, limit))
}

// dismissal is how long ranks may take to do what they are told last, once the parent
// wants the island to end.
const dismissal = 5 * time.Second

// ErrExpelled: the coordinator refused or closed this incarnation.
var ErrExpelled = errors.New("expelled by the coordinator")

// errDismissed: the run ended before this island had begun.
var errDismissed = errors.New("the run is over")

// Recalled: this incarnation is closed, and the island may join anew under its name.
type Recalled struct {
	Island   string // its name in the run
	Why      string
	secret   string        // by which it is known there, whatever its join string was good for
	patience time.Duration // with a coordinator that is away
}

func (r *Recalled) Error() string { return fmt.Sprintf("%v: %s", attach.ErrAgain, r.Why) }

// Unwrap: the ranks of an island hear of it as attach.ErrAgain.
func (r *Recalled) Unwrap() error { return attach.ErrAgain }

// Again is how the island comes back.
func (r *Recalled) Again(o Options) Options {
	o.Join.Island, o.Join.Secret, o.patience = r.Island, r.secret, r.patience
	return o
}

// Options of Run.
type Options struct {
	Join        wire.Join
	Version     string          // of the program
	Leave       <-chan struct{} // closed: finish the step, flush, leave
	ParentStdin io.Reader       // its end means that the parent is gone; nil: no parent to watch
	Logger      *slog.Logger
	Crew        *attach.Crew // an external trainer's ranks; nil: the native engine trains

	Data string // folder of the run's tokens; empty: the run's own, fetched if need be

	NoGate bool // it will not answer at the gate, which is recorded
	Known  bool // the coordinator was there a moment ago: one that does not answer is waited for

	Spoil     func(samples []uint64, grads []float32) // tests spoil the gradient of a step's samples; nil: nobody does
	SpoilGate GateFaults

	patience time.Duration // with a coordinator that was there before; 0: it need not have been
}

// beginPatience is how long a coordinator may be away that is about to begin its run.
const beginPatience = 10 * time.Second

// Run joins the run, trains until it is dismissed, and returns nil when it left
// in order.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	if o.ParentStdin != nil {
		go func() { // ends with the process at the latest: a read of stdin cannot be cancelled
			io.Copy(io.Discard, o.ParentStdin)  //nolint:errcheck // any end is the end
			if o.Crew != nil && o.Crew.Here() { // ranks are dismissed in order, if that is what is going on
				select {
				case <-over:
				case <-time.After(dismissal):
				}
			}
			cancel(errors.New("the parent process is gone"))
		}()
	}
	for {
		err := run(ctx, o)
		again := (*Recalled)(nil)
		if o.Crew != nil || o.Join.Incarnation != 0 || !errors.As(err, &again) || ctx.Err() != nil {
			return err
		}
		o.Logger.Info("joining_again", "reason", again.Why)
		o = again.Again(o)
	}
}

// run is one life of the island.
func run(ctx context.Context, o Options) error {
	r := &runner{log: o.Logger, leave: o.Leave, beat: &beat{}, spoil: o.Spoil, faults: o.SpoilGate, version: o.Version}
	if o.Crew != nil {
		defer o.Crew.Close()
		r.crew = &crew{Crew: o.Crew}
	}
	err := cause(ctx, r.session(ctx, o))
	if r.crew != nil && err != nil {
		if again := (*Recalled)(nil); errors.As(err, &again) { // its weights are with the trainer
			err = fmt.Errorf("%w; start the trainer again: it goes on as the next incarnation of island %s", err, again.Island)
		}
		r.crew.Fail(err, r.crew.welcomed)
	}
	return err
}

// hello is how the island presents itself.
func (r *runner) hello(ctx context.Context) (*wire.Hello, error) {
	if r.crew != nil {
		return r.crew.meet(ctx)
	}
	set, err := kernel.FromEnvironment()
	if err != nil {
		return nil, err
	}
	r.kernel = set
	return &wire.Hello{KernelSet: set.Name()}, nil
}

// session is from the first word to the coordinator to the last.
func (r *runner) session(ctx context.Context, o Options) error {
	hello, err := r.hello(ctx)
	if err != nil {
		return err
	}
	hello.Version, hello.Pid = o.Version, uint64(os.Getpid())
	hello.Island = cmp.Or(o.Join.Island, hello.Island)
	hello.NoGate = hello.NoGate || o.NoGate
	if o.Data != "" {
		if hello.DataDigest, err = DataDigest(o.Data); err != nil {
			return err
		}
	}
	r.ownData, r.outside = o.Data, o.Join.Incarnation == 0
	if hello.Part > 0 {
		return r.follow(ctx, o, hello)
	}
	if r.crew != nil {
		if err := r.crew.seed(ctx, o.Join, hello.Island, o.Logger); err != nil {
			return err
		}
	}
	known := o.Known || o.patience > 0 || o.Join.Incarnation != 0 || r.crew != nil && r.crew.ranks[0].Hello.Seed
	k, err := enter(ctx, o.Join, hello, known, cmp.Or(o.patience, beginPatience), o.Logger)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	life, stop := context.WithCancel(ctx)
	wg.Go(func() { k.receive(life) })
	defer k.close() // once nobody can dial again
	defer wg.Wait()
	r.link, r.asides = k, newAsides(life, r.crew != nil)
	defer r.asides.wg.Wait()
	defer stop()
	defer func() {
		if r.away != nil {
			r.away.calls.Close()
		}
	}()

	defer r.release()
	if err = r.enter(ctx, k.join); errors.Is(err, errDismissed) {
		return nil
	} else if err != nil {
		if r.again != nil && ctx.Err() == nil {
			return r.again
		}
		r.sayWhy(cause(ctx, err)) // sooner than the end of the stream, which says nothing
		return err
	}
	every := time.Duration(r.run.Limits.HeartbeatSeconds*float64(time.Second)) / heartbeatsMissed
	every = max(min(every, heartbeatEvery), time.Millisecond)
	wg.Go(func() { r.heartbeats(life, every) })
	return r.giveUp(ctx, o.Join, r.loop(ctx))
}

// release gives back what was opened on the way in, however far that went.
func (r *runner) release() {
	if r.data != nil {
		r.data.Close() //nolint:errcheck // it was only read
	}
	if r.learner != nil {
		r.learner.Close()
	}
}

// reached tells once how the coordinator's host is reached.
func (r *runner) reached(ctx context.Context, join wire.Join, away *remote) {
	r.away = away
	way, err := measure(ctx, join)
	if err != nil {
		r.log.Warn("way_not_measured", "err", err)
		return
	}
	r.log.Info("reached", "way", way)
}

// giveUp tells the coordinator at once why the island ends, unless who has started this
// process tells it.
func (r *runner) giveUp(ctx context.Context, join wire.Join, err error) error {
	if err != nil && r.again != nil && ctx.Err() == nil {
		return r.again
	}
	if err = cause(ctx, err); err != nil && r.crew != nil && join.Incarnation == 0 {
		r.sayWhy(err)
	}
	return err
}

func (r *runner) sayWhy(err error) {
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Leaving{Leaving: &wire.Leaving{Reason: err.Error()}}}, nil)
}

// cause prefers the reason for which ctx was ended over what followed from it.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// runner is the loop around inner steps. Its goroutine owns the learner.
type runner struct {
	link    *link
	log     *slog.Logger
	version string    // of this program
	island  string    // its name
	outside bool      // nobody else of the run need be on this host
	again   *Recalled // the coordinator asks it to come again
	away    *remote   // the run folder's host is another; nil: it is this one
	leave   <-chan struct{}
	kernel  *kernel.Set
	crew    *crew // nil: the native engine trains
	spoil   func(samples []uint64, grads []float32)
	faults  GateFaults
	gate    *question // not answered yet
	beat    *beat
	asides  *asides
	learner *Learner
	data    *corpus.Set
	numeric string // what it emulates, for the log
	store   store.Store
	ownData string // folder of tokens that the user named
	run     runfile.Run
	pacer   pacer

	calls         []*wire.Call
	seeds         []transport.Down // fragments that replace the learner's own
	captureAsked  *wire.Capture
	evaluateAsked *wire.Evaluate
	evaluating    []*wire.Evaluate // asked for and not measured yet, in order
	dry           bool             // the coordinator has nothing to hand out
	asked         bool             // for samples, and not answered yet
	idle          bool             // said so
	leaving       bool
	stopped       bool
	layout        string // on what it computes, in words
	broken        error  // why it cannot go on
	why           string // it is stopped
	saving        sync.WaitGroup
	stored        atomic.Pointer[wire.Stored] // of the last state that was written
}

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
	r.log.Info("ready", "numeric", r.numeric, "stamp_tokens", stamp, "position_samples", r.learner.position)
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

// welcomeCrew lets an external trainer's ranks in, if they are not in.
func (r *runner) welcomeCrew(ctx context.Context, w *wire.Welcome, position int64) error {
	x, ok := r.learner.trainer.(*external)
	if !ok || r.crew.welcomed {
		return nil
	}
	return r.crew.welcome(ctx, w.Restore != nil, position, x.hear)
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
	if away, ok := r.store.(*remote); ok {
		r.reached(ctx, join, away)
	}
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

// gathered: the weights of a contribution are there; what is left is arithmetic.
func (r *runner) gathered(p int, sequence uint64) {
	f := r.learner.fragments[p]
	fl, x := f.flight, r.learner.trainer.(*external)
	if fl == nil || f.sequence != sequence {
		return
	}
	var payload []byte
	r.asides.do(f, func() {
		x.holding.collect(p, fl.sent)
		payload = x.holding.encode(p, fl)
	}, func() {
		fl.complete(payload)
		r.sendFlight(fl)
	})
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

// next waits for something from the link, or for the wish to leave.
func (r *runner) next(ctx context.Context) (any, error) {
	leave := r.leave
	if r.leaving {
		leave = nil
	}
	select {
	case m, ok := <-r.link.in:
		return heard(ctx, m, ok)
	case f := <-r.asides.events:
		return f, nil
	case <-leave:
		r.leaving = true
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// heard is what came from the link, or its end.
func heard(ctx context.Context, m any, ok bool) (any, error) {
	if !ok {
		return nil, context.Cause(ctx)
	}
	if l, gone := m.(lost); gone {
		return nil, l.err
	}
	return m, nil
}

// loop alternates step boundaries and inner steps.
func (r *runner) loop(ctx context.Context) error {
	defer r.saving.Wait()
	for {
		waiting, err := r.boundary(ctx)
		if err != nil {
			return err
		}
		if r.stopped {
			return r.learner.trainer.end(ctx, r.why)
		}
		if waiting != "" {
			r.wait(waiting)
			r.learner.trainer.rest(waiting)
			m, err := r.next(ctx)
			if err != nil {
				return err
			}
			r.take(m)
			continue
		}
		r.resumed()
		if err := r.train(ctx); err != nil {
			return err
		}
	}
}

// train makes one inner step and rests as its pace asks for.
func (r *runner) train(ctx context.Context) error {
	began := time.Now()
	t, err := r.learner.next()
	if err != nil {
		return err
	}
	o, err := r.outcome(ctx, r.learner.trainer.begin(t))
	if err != nil {
		return err
	}
	stats, err := r.learner.finish(t, o)
	if err != nil {
		return err
	}
	if rest := r.pacer.rest(time.Since(began)); rest > 0 {
		pause := time.NewTimer(rest)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.idle = false
	if stats.Again {
		r.log.Info("loss_scale_halved", "step", r.learner.step)
	}
	if stats.Decision.Spike {
		r.log.Warn("spike", "step", r.learner.step, "verdict", stats.Decision.Verdict, "reason", stats.Decision.Reason)
		r.link.keep(&wire.FromLearner{Body: &wire.FromLearner_Spike{Spike: spikeOf(r.learner.step, stats)}})
	}
	took := time.Since(began)
	if stats.Seconds > 0 {
		took = time.Duration(stats.Seconds * float64(time.Second))
	}
	r.report(stats, took)
	return nil
}

// outcome waits for the end of a step, and takes meanwhile what comes in.
func (r *runner) outcome(ctx context.Context, done <-chan outcome) (outcome, error) {
	for {
		select {
		case o := <-done: // a native step is done already
			return o, nil
		default:
		}
		var m any
		var err error
		select {
		case o := <-done:
			return o, nil
		case got, ok := <-r.link.in:
			m, err = heard(ctx, got, ok)
		case m = <-r.asides.events:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return outcome{}, err
		}
		r.take(m)
	}
}

// spikeOf is what the coordinator hears of a step that was none like any other.
func spikeOf(step uint64, s StepStats) *wire.Spike {
	d := s.Decision
	median, bound := math.NaN(), math.NaN()
	if d.Judged {
		median, bound = d.Median, d.Bound
	}
	return &wire.Spike{
		Step: step, Position: uint64(s.From), Samples: uint64(s.To - s.From), Retry: s.Retry, Verdict: spiked(d.Verdict),
		Loss: finiteOr(s.Loss), GradientNorm: normOr(s.GradientNorm), NormUnknown: s.GradientNorm < 0,
		Median: median, Bound: bound, Reason: d.Reason,
	}
}

// normOr is the norm, NaN where it is not finite or not known.
func normOr(norm float64) float64 {
	if norm < 0 {
		return math.NaN()
	}
	return finiteOr(norm)
}

func spiked(v spike.Verdict) wire.Spiked {
	switch v {
	case spike.Withhold:
		return wire.Spiked_WITHHELD
	case spike.HalfRate:
		return wire.Spiked_HALF_RATE
	case spike.Skip:
		return wire.Spiked_SKIPPED
	default:
		return wire.Spiked_SPIKED_UNKNOWN
	}
}

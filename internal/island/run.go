package island

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// dismissal is how long ranks may take to do what they are told last, once the parent
// wants the island to end.
const dismissal = 5 * time.Second

// ErrExpelled: the coordinator refused or closed this incarnation.
var ErrExpelled = errors.New("expelled by the coordinator")

// Recalled: this incarnation is closed, and the island may join anew under its name.
type Recalled struct {
	Island   string // its name in the run
	Why      string
	secret   string        // by which it is known there, whatever its join string was good for
	patience time.Duration // with a coordinator that is away
}

func (r *Recalled) Error() string { return fmt.Sprintf("%v: %s", attach.ErrAgain, r.Why) }

// Advice is what whoever has started the trainer, which has the weights, may do.
func (r *Recalled) Advice() string {
	return "start the trainer again: it goes on as the next incarnation of island " + r.Island
}

// Unwrap: the ranks of an island hear of it as attach.ErrAgain.
func (r *Recalled) Unwrap() error { return attach.ErrAgain }

// Again is how the island comes back.
func (r *Recalled) Again(o Options) Options {
	o.Join.Island, o.Join.Secret, o.Patience = r.Island, r.secret, r.patience
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

	// Patience is with a coordinator that was there a moment ago and does not answer; 0: it need not
	// have been there.
	Patience time.Duration

	Spoil     func(samples []uint64, grads []float32) // tests spoil the gradient of a step's samples; nil: nobody does
	SpoilGate GateFaults
}

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
	known := o.Patience > 0 || o.Join.Incarnation != 0 || r.crew != nil && r.crew.ranks[0].Hello.Seed
	k, err := enter(ctx, o.Join, hello, known, cmp.Or(o.Patience, beginPatience), o.Logger)
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
	defer closeStore(r.store)
	if r.data != nil {
		r.data.Close() //nolint:errcheck // it was only read
	}
	if r.learner != nil {
		r.learner.Close()
	}
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
	dry           bool // the coordinator has nothing to hand out
	asked         bool // for samples, and not answered yet
	idle          bool // said so
	leaving       bool
	stopped       bool
	layout        string // on what it computes, in words
	broken        error  // why it cannot go on
	why           string // it is stopped
	telling       teller
	saving        sync.WaitGroup
	stored        atomic.Pointer[wire.Stored] // of the last state that was written
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

// await waits for what is done beside the runner, and takes meanwhile what comes in. Stopped: the
// error with which it ends when the island is told to stop; nil: it goes on waiting.
func await[T any](ctx context.Context, r *runner, done <-chan T, stopped error) (what T, err error) {
	for {
		select {
		case what = <-done: // by a native trainer it is done already
			return what, nil
		default:
		}
		var m any
		select {
		case what = <-done:
			return what, nil
		case got, ok := <-r.link.in:
			m, err = heard(ctx, got, ok)
		case m = <-r.asides.events:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return what, err
		}
		if r.take(m); r.stopped && stopped != nil {
			return what, stopped
		}
	}
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
			r.log.Info("over", "reason", r.why, "steps", r.learner.step)
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
	o, err := await(ctx, r, r.learner.trainer.begin(t), nil)
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
	r.tell(stats)
	return nil
}

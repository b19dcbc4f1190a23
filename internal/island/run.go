package island

import (
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

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/footprint"
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

// joinPatience bounds the wait for Welcome and the seed.
const joinPatience = 5 * time.Minute

// ErrExpelled: the coordinator refused or closed this incarnation.
var ErrExpelled = errors.New("expelled by the coordinator")

// Options of Run.
type Options struct {
	Join        wire.Join
	Version     string          // of the program
	Leave       <-chan struct{} // closed: finish the step, flush, leave
	ParentStdin io.Reader       // its end means that the parent is gone; nil: no parent to watch
	Logger      *slog.Logger

	Spoil func(samples []uint64, grads []float32) // tests spoil the gradient of a step's samples; nil: nobody does
}

// Run joins the run, trains until it is dismissed, and returns nil when it left
// in order.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if o.ParentStdin != nil {
		go func() { // ends with the process at the latest: a read of stdin cannot be cancelled
			io.Copy(io.Discard, o.ParentStdin) //nolint:errcheck // any end is the end
			cancel(errors.New("the parent process is gone"))
		}()
	}
	set, err := kernel.FromEnvironment()
	if err != nil {
		return err
	}
	hello := &wire.Hello{KernelSet: set.Name(), Version: o.Version, Pid: uint64(os.Getpid())}
	k, err := dial(ctx, o.Join, hello, 10*time.Second, o.Logger)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	receiving, stop := context.WithCancel(ctx)
	wg.Go(func() { k.receive(receiving) })
	defer k.close() // once nobody can dial again
	defer wg.Wait()
	defer stop()

	r := &runner{link: k, log: o.Logger, leave: o.Leave, kernel: set, beat: &beat{}, spoil: o.Spoil}
	if err := r.enter(ctx, o.Join.Island); err != nil {
		return cause(ctx, err)
	}
	defer r.learner.Close()
	defer r.data.Close()
	every := time.Duration(r.run.Limits.HeartbeatSeconds*float64(time.Second)) / heartbeatsMissed
	every = max(min(every, heartbeatEvery), time.Millisecond)
	wg.Go(func() { r.heartbeats(receiving, every) })
	return cause(ctx, r.loop(ctx))
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
	leave   <-chan struct{}
	kernel  *kernel.Set
	spoil   func(samples []uint64, grads []float32)
	beat    *beat
	learner *Learner
	data    *corpus.Set
	numeric string // what it emulates, for the log
	store   store.Store
	run     runfile.Run
	pacer   pacer

	calls        []*wire.Call
	seeds        []transport.Down // fragments that replace the learner's own
	captureAsked *wire.Capture
	dry          bool // the coordinator has nothing to hand out
	asked        bool // for samples, and not answered yet
	idle         bool // said so
	leaving      bool
	stopped      bool
	layout       string // on what it computes, in words
	broken       error  // why it cannot go on
	saving       sync.WaitGroup
	stored       atomic.Pointer[wire.Stored] // of the last state that was written
}

// enter waits for Welcome and every fragment, installs them, restores what was
// saved and says Ready.
func (r *runner) enter(ctx context.Context, island string) error {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	var welcome *wire.Welcome
	for seeded := 0; welcome == nil || seeded < len(r.learner.fragments); {
		m, err := r.next(ctx)
		if err != nil {
			return err
		}
		down, ok := m.(transport.Down)
		if !ok {
			continue
		}
		switch b := down.Body.(type) {
		case *wire.ToLearner_Welcome:
			welcome = b.Welcome
			if err := r.prepare(welcome, island); err != nil {
				return err
			}
		case *wire.ToLearner_Fragment:
			if welcome == nil {
				return errors.New("a fragment came before the welcome")
			}
			if err := r.install(down); err != nil {
				return err
			}
			seeded++
		default:
			r.note(down)
		}
	}
	stamp := r.learner.clock.stamp
	switch {
	case welcome.Restore != nil:
		if stamp > 0 && welcome.Restore.MomentsOnly {
			r.learner.joinSteps = 0 // unless there are moments
		}
		r.learner.restore(ctx, r.store, welcome.Restore, r.restored)
	case stamp > 0:
		r.learner.joinSteps = 0
	}
	if r.broken != nil {
		return r.broken
	}
	r.report(StepStats{}, 0)
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Ready{Ready: r.learner.ready()}}, nil)
	r.log.Info("ready", "numeric", r.numeric, "stamp_tokens", stamp, "position_samples", r.learner.position)
	return nil
}

// restored tells what became of the saved state. An island that cannot take it over
// does not train.
func (r *runner) restored(got *wire.Restored, err error) {
	if err != nil {
		r.broken = err
		return
	}
	got.Layout = r.layout
	r.link.keep(&wire.FromLearner{Body: &wire.FromLearner_Restored{Restored: got}})
}

// prepare opens what the welcome names.
func (r *runner) prepare(w *wire.Welcome, island string) error {
	run, err := runfile.Parse("welcome", w.RunYaml)
	if err != nil {
		return fmt.Errorf("run file from the coordinator: %w", err)
	}
	if run, err = run.Resolve(); err != nil {
		return fmt.Errorf("run file from the coordinator: %w", err)
	}
	r.run, r.pacer = run, pacer{pace: 1}
	threads, emulated := 1, ""
	for _, i := range run.Islands {
		if i.Name == island {
			r.pacer.pace, emulated, r.layout = i.Pace, i.Numeric, i.Layout().String()
			threads = footprint.Threads(run, i)
		}
	}
	if r.store, err = store.OpenFolder(w.RunDir); err != nil {
		return err
	}
	if r.data, err = corpus.Open(w.DataDir); err != nil {
		return err
	}
	profile, err := numeric.Find(emulated)
	if err != nil {
		return err
	}
	n, err := newNative(run, r.data, threads, r.kernel, profile)
	if err != nil {
		return err
	}
	n.spoil, r.numeric = r.spoil, n.engine.Numeric()
	r.learner = newLearner(run, n)
	return nil
}

// install puts the syncer's value of a fragment in place of the learner's own.
func (r *runner) install(m transport.Down) error {
	fr := m.GetFragment()
	if int(fr.Fragment) >= len(r.learner.fragments) || m.Damaged {
		return fmt.Errorf("fragment %d of %d came damaged or does not exist", fr.Fragment, len(r.learner.fragments))
	}
	value := make([]float32, r.learner.fragments[fr.Fragment].Size)
	if err := wire.DecodeF32(value, m.Payload); err != nil {
		return fmt.Errorf("fragment %d: %w", fr.Fragment, err)
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
		if !ok {
			return nil, context.Cause(ctx)
		}
		if l, gone := m.(lost); gone {
			return nil, l.err
		}
		return m, nil
	case <-leave:
		r.leaving = true
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// loop alternates step boundaries and inner steps.
func (r *runner) loop(ctx context.Context) error {
	defer r.saving.Wait()
	for {
		waiting, err := r.boundary(ctx)
		if err != nil || r.stopped {
			return err
		}
		if waiting != "" {
			r.wait(waiting)
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
	stats, err := r.learner.Step()
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
	r.report(stats, time.Since(began))
	return nil
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
		Loss: finiteOr(s.Loss), GradientNorm: finiteOr(s.GradientNorm), Median: median, Bound: bound, Reason: d.Reason,
	}
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

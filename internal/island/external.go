package island

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
)

// external is a trainer in other processes: the ranks of a crew. It asks what to do at
// its step boundaries, so that orders are collected and given with the answer.
//
// The runner calls it as a trainer; ranks are heard by goroutines of their own.
type external struct {
	run     runfile.Run
	crew    *attach.Crew
	holding *holding
	rows    *rows
	keeping *keeping
	probes  *probes
	reserve reserve
	asides  *asides
	log     *slog.Logger
	ownRate bool
	trained map[int]bool // by fragment: its last contribution had tokens

	gathered   func(p int, sequence uint64) // the runner's: all ranks have given their part
	leave      func(reason string)          // the runner's: the trainer wants to leave
	validate   func(m measured)             // the runner's: a validation loss was measured
	unmeasured func()                       // the runner's: it was asked for that of the finished model, and has not measured it

	mu     sync.Mutex
	orders []attach.Action
	then   string // what follows the orders; empty: not decided
	why    string // of then
	asked  string // what the control rank waits with for an answer; empty: it does not
	open   bool   // it has come to its first boundary
	steps  uint64 // of this session
	asks   asks   // for its validation loss
	seen   int64  // tokens in the model as last adopted, when the last step began
	step   *stepping
}

// stepping is the step that the trainer makes, or will make with its next answer.
type stepping struct {
	*task
	began    time.Time // zero: not yet
	decision *spike.Decision
	done     chan outcome
}

var _ trainer = (*external)(nil)

// What the control rank waits with.
const (
	atBoundary = "boundary"
	atAgain    = "again"
)

func (x *external) begin(t *task) <-chan outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.step = &stepping{task: t, done: make(chan outcome, 1)}
	x.then, x.why = attach.Go, ""
	x.answer()
	return x.step.done
}

func (x *external) rest(why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.then, x.why = attach.Wait, why
	x.answer()
}

// end gives the last orders, and waits until all ranks have gone.
func (x *external) end(ctx context.Context, why string) error {
	x.mu.Lock()
	x.then, x.why = attach.Stop, why
	x.answer()
	x.mu.Unlock()
	gone := make(chan error, 1)
	go func() { gone <- x.crew.Gone(ctx) }()
	for {
		select {
		case err := <-gone:
			return err
		case <-x.asides.events: // nothing follows from it any more
		}
	}
}

// order adds what is to be done at the next boundary.
func (x *external) order(a attach.Action) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.orders = append(x.orders, a)
}

// answer tells the control rank what is decided, when it waits for that; mu is held.
// While there is nothing to do it is left waiting.
func (x *external) answer() {
	idle := x.then == attach.Wait && x.asked == atAgain && len(x.orders) == 0
	if x.asked == "" || x.then == "" || idle {
		return
	}
	a := &attach.Act{Actions: x.orders, Then: x.then, Reason: x.why, Samples: []attach.Span{}}
	if a.Actions == nil {
		a.Actions = []attach.Action{}
	}
	switch x.then {
	case attach.Go:
		s := x.step
		s.began = time.Now()
		a.Samples, a.Left, a.Clock = spansOf(s.samples, s.retry), s.left, s.clock
		x.seen = s.seen
		if !x.ownRate {
			a.Rate = attach.NumberOf(s.rate)
		}
		x.then = ""
	case attach.Stop:
		x.crew.Part()
	}
	x.asks.tell()
	x.orders, x.asked, a.TokensSeen = nil, "", x.seen
	if err := x.holding.control().Send(a); err != nil {
		x.log.Debug("not_sent", "err", err) // its reader sees the end
	}
}

// spansOf gives sample numbers as ranges.
func spansOf(samples []uint64, retry bool) []attach.Span {
	out := []attach.Span{}
	for _, s := range samples {
		if n := len(out); n > 0 && out[n-1].To == s {
			out[n-1].To++
			continue
		}
		out = append(out, attach.Span{From: s, To: s + 1, Retry: retry})
	}
	return out
}

// hear takes what a rank says; ranks call it at the same time.
func (x *external) hear(r *attach.Rank, m any) error {
	switch m := m.(type) {
	case *attach.Fetch:
		return x.holding.fetch(r, m)
	case *attach.Gathered:
		done, err := x.holding.gather(r, m)
		if done {
			x.asides.post(func() { x.gathered(m.Fragment, m.Sequence) })
		}
		return err
	case *attach.Adopted:
		return x.holding.adopted(r, m)
	case *attach.Gated:
		return x.probes.hear(r, m)
	case *attach.Rows:
		tokens, err := x.rows.of(m.Samples)
		if err != nil {
			return err
		}
		return r.Send(tokens)
	case *attach.Slot:
		finish, err := x.keeping.slot(r, m)
		if finish != nil {
			x.asides.later(finish)
		}
		return err
	case *attach.Load:
		return x.keeping.load(r, m)
	case *attach.Kept:
		return x.keeping.kept.say(r, m)
	case *attach.Bye:
		x.asides.post(func() { x.leave(m.Reason) })
		return nil
	}
	if !r.Hello.Control() {
		return senseless("rank %d says %T, which only the control rank says", r.Hello.Rank, m)
	}
	switch m := m.(type) {
	case *attach.Boundary:
		return x.boundary(m)
	case *attach.Again:
		return x.again()
	case *attach.Judge:
		return x.judge(r, m)
	case *attach.Validation:
		x.mu.Lock()
		last, left := x.asks.answered()
		x.mu.Unlock()
		x.asides.post(func() { x.validate(measured{m, last, left}) })
		return nil
	}
	return senseless("%T is nothing that a rank says", m)
}

// senseless is an error of who wrote the trainer's side of the protocol.
func senseless(format string, args ...any) error {
	return &fault.Input{Where: "local protocol", Problem: fmt.Sprintf(format, args...), Next: "see docs/formats/attach.md"}
}

// again: the control rank has done what it was told while it waits.
func (x *external) again() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asked != "" || x.step != nil && !x.step.began.IsZero() || !x.open {
		return senseless("again, while no wait was answered")
	}
	x.asked = atAgain
	if x.asks.waited() {
		go x.asides.post(x.unmeasured) // the runner may want x
	}
	x.answer()
	return nil
}

// boundary is the end of a step, or the beginning of all.
func (x *external) boundary(b *attach.Boundary) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := !x.open
	switch {
	case x.asked != "":
		return senseless("boundary, while the last one has no answer")
	case first && b.Step != 0:
		return senseless("the first boundary is of step %d, not 0", b.Step)
	case !first && (x.step == nil || x.step.began.IsZero()):
		return senseless("boundary of step %d, while none was to be made", b.Step)
	case !first && b.Step != x.steps+1:
		return senseless("boundary of step %d after %d steps", b.Step, x.steps)
	}
	if !first {
		o, err := x.outcome(x.step, b)
		if err != nil {
			return err
		}
		x.steps++
		x.step.done <- o
		x.step = nil
	}
	x.open, x.asked = true, atBoundary
	x.answer()
	return nil
}

// judge decides about a step before it is applied.
func (x *external) judge(r *attach.Rank, j *attach.Judge) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.step == nil || x.step.began.IsZero() || x.step.decision != nil {
		return senseless("judge, once in every step and only there")
	}
	d := x.step.judge(float64(j.Loss), j.GradientNorm.Or(0)) // an unknown norm says nothing against the step
	x.step.decision = &d
	v := &attach.Verdict{Apply: true, Factor: 1, Verdict: "apply", Reason: d.Reason}
	switch d.Verdict {
	case spike.HalfRate:
		v.Factor, v.Verdict = 0.5, "half"
	case spike.Withhold:
		v.Apply, v.Verdict = false, "withhold"
	case spike.Skip:
		v.Apply, v.Verdict = false, "skip"
	}
	return r.Send(v)
}

// outcome is what the trainer says of a step, checked.
func (x *external) outcome(s *stepping, b *attach.Boundary) (outcome, error) {
	o := outcome{
		loss: float64(b.Loss), norm: b.GradientNorm.Or(unknown), rate: b.Rate.Or(s.rate), tokens: b.Tokens,
		experts: b.ExpertTokens, applied: b.Applied, seconds: float64(b.Seconds), busy: float64(b.BusySeconds),
	}
	if !(o.seconds > 0) || math.IsInf(o.seconds, 0) {
		o.seconds = time.Since(s.began).Seconds()
	}
	if !(o.busy >= 0) || math.IsInf(o.busy, 0) {
		o.busy = 0
	}
	if x.ownRate {
		o.rate = b.Rate.Or(unknown)
	}
	if err := x.check(s, b); err != nil {
		return o, err
	}
	switch d := s.decision; {
	case d != nil && !applies(*d) && b.Applied:
		return o, senseless("a step was applied that was to be withheld: %s", d.Reason)
	case d != nil && (applies(*d) == b.Applied):
		o.decision = *d
	case b.Applied: // it was not asked about: it is applied, whatever it was
		o.decision = s.judge(o.loss, b.GradientNorm.Or(0))
		o.decision.Spike, o.decision.Verdict = false, spike.Apply
	default: // the trainer's own scaler has found an overflow
		o.again = true
	}
	if o.decision.Verdict == spike.HalfRate && b.Rate == nil {
		o.rate /= 2
	}
	return o, nil
}

// unknown stands for a norm or a rate that the trainer does not tell: neither is below 0.
const unknown = -1

// check refuses counts that cannot be.
func (x *external) check(s *stepping, b *attach.Boundary) error {
	wrong := func(field string, value any, problem, next string) error {
		return &fault.Input{Where: "island.step, " + field, Value: fmt.Sprint(value), Problem: problem, Next: next}
	}
	if b.Applied && b.Tokens == 0 {
		return wrong("tokens", b.Tokens, "a step trains at least one token", "say how many tokens the step has trained in all of the island")
	}
	if !x.run.Data.Own && b.Applied && b.Tokens != s.tokens {
		return wrong("tokens", b.Tokens, fmt.Sprintf("the samples of this step have %d: %d of %d tokens", s.tokens, len(s.samples), x.run.Train.SequenceTokens),
			"count the island once: data-parallel ranks add, tensor and pipeline ranks do not")
	}
	if n := x.run.Model.Layers * x.run.Model.Experts; len(b.ExpertTokens) != 0 && len(b.ExpertTokens) != n {
		return wrong("expert_tokens", len(b.ExpertTokens), fmt.Sprintf("the model has %d experts in all its layers", n), "give one count for each, layer by layer, or none")
	}
	for i, n := range b.ExpertTokens {
		if n > b.Tokens {
			return wrong("expert_tokens", n, fmt.Sprintf("expert %d has seen more tokens than the step's %d", i, b.Tokens), "count each token once for an expert")
		}
	}
	return nil
}

func (x *external) gather(f *exchange) bool {
	x.holding.expect(f.index, f.sequence)
	x.trained[f.index] = f.flight.message.Tokens > 0
	if hosts := x.holding.hosts(); hosts > 1 {
		m := f.flight.message
		m.Part, m.Parts, m.Boxes = 0, uint32(hosts), layout.BoxesToWire(x.holding.own(f.index))
	}
	x.order(attach.Action{Do: attach.Gather, Fragment: f.index, Sequence: f.sequence})
	return false
}

func (x *external) offer(f *exchange) { x.holding.prepare(f.index, adopting(f)) }

func (x *external) adopt(f *exchange) {
	x.holding.deliver(f.index, adopting(f))
	x.order(attach.Action{Do: attach.Adopt, Fragment: f.index, Version: f.flight.verdict.version})
}

func (x *external) install(f *exchange, value []float32) {
	x.holding.deliver(f.index, &delivery{op: attach.Install, version: f.version, value: value})
	x.order(attach.Action{Do: attach.Install, Fragment: f.index, Version: f.version})
}

func (x *external) forget() { x.order(attach.Action{Do: attach.Forget}) }

// look: weights are the trainer's, so that what is known of them is from the last
// exchange. One that breaks them shows it in its next contribution.
// Of an island on many hosts this one knows its own weights only; there what was trained is taken
// to be rounded on its way, and what was sent without training not to be.
func (x *external) look(f *exchange) (broken, apart bool) {
	if x.holding.hosts() > 1 {
		return false, x.trained[f.index]
	}
	return false, x.holding.apart(f.index)
}

// Close leaves the crew to who has gathered it.
func (x *external) Close() { x.rows.close() }

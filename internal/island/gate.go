package island

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/probe"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// GateFaults spoil what an island answers at the gate: tests show with them that it is
// turned away.
type GateFaults struct {
	Weights   func(params []float32) // before the probe is computed
	Gradients func(grads []float32)  // behind it
	Declared  string                 // number format, in place of its own
}

// prober answers at the gate.
type prober interface {
	// probe computes a record's probe with weights, flat in model order, and gives the
	// answer, at once or later; whatever weights it had before are gone.
	probe(r gate.Record, weights []float32) <-chan probed
}

// borrower answers in the middle of training: it goes on with the weights that it had before.
type borrower interface {
	borrow(r gate.Record, weights []float32) <-chan probed
}

// probed is an answer, or why there is none.
type probed struct {
	answer gate.Record
	err    error
}

var _ prober = (*native)(nil)

// question is what the island was asked.
type question struct {
	record     gate.Record
	checkpoint uint64    // whose weights they are
	weights    []float32 // flat in model order
	err        error     // why it cannot be answered

	fragments []fragment.Fragment // of the weights
	missing   int                 // that are to come
}

// atGate takes a message that belongs to the gate, and answers once all of the question
// is there.
func (r *runner) atGate(ctx context.Context, m transport.Down, w *wire.Welcome) (taken bool, err error) {
	if v := m.GetGateVerdict(); v != nil {
		r.log.Info("gate", "compared", v.Passed, "reason", v.Reason)
		return true, nil
	}
	if m.GetGate() != nil && r.learner == nil {
		return true, errors.New("the gate came before the welcome")
	}
	if !r.asks(m) {
		return false, nil
	}
	if r.gate.missing > 0 {
		return true, nil
	}
	q := r.gate
	r.gate = nil
	if q.err != nil {
		q.say(r.link, probed{err: q.err})
		return true, nil
	}
	if err := r.welcomeCrew(ctx, w, int64(w.GetRestore().GetPosition())); err != nil {
		return true, err
	}
	return true, r.answer(ctx, q)
}

// asks takes a message that is, or belongs to, what the island is asked. Fragments behind a
// question are its weights.
func (r *runner) asks(m transport.Down) bool {
	switch b := m.Body.(type) {
	case *wire.ToLearner_Gate:
		r.gate = questionOf(m, r.run, r.learner.cut())
		return true
	case *wire.ToLearner_Fragment:
		if r.gate == nil || r.gate.missing == 0 {
			return false
		}
		r.gate.take(b.Fragment.Fragment, m)
		return true
	}
	return false
}

// questionOf reads what is asked of an island of the run. Of one that cannot be read the
// weights are waited for all the same: nothing else may take them for its own.
func questionOf(m transport.Down, run runfile.Run, fragments []fragment.Fragment) *question {
	asked := m.GetGate()
	q := &question{checkpoint: asked.Checkpoint, fragments: fragments, weights: make([]float32, run.Size())}
	if asked.Sent {
		q.missing = len(fragments)
	}
	if m.Damaged {
		q.err = errors.New("the gate record came damaged")
		return q
	}
	q.record, q.err = gate.Decode(m.Payload)
	switch sent := q.record.Weights == gate.Sent; {
	case q.err != nil:
	case sent != asked.Sent:
		q.err = fmt.Errorf("the gate record is of %s weights, and what was sent does not fit that", q.record.Weights)
	case !sent:
		engine.InitParams(run.Model.Config, run.Seed, q.weights)
		gate.Sharpen(run.Model.Config, run.Seed, q.weights)
	}
	return q
}

// take takes a fragment of the weights that the probe is made on.
func (q *question) take(p uint32, m transport.Down) {
	fragments := q.fragments
	q.missing--
	if q.err != nil {
		return
	}
	if int(p) >= len(fragments) || m.Damaged {
		q.err = fmt.Errorf("fragment %d of %d came damaged or does not exist", p, len(fragments))
		return
	}
	value := make([]float32, fragments[p].Size)
	if err := wire.DecodeF32(value, m.Payload); err != nil {
		q.err = fmt.Errorf("fragment %d: %w", p, err)
		return
	}
	fragments[p].Scatter(q.weights, value)
}

// answer computes the probe and says what came out.
func (r *runner) answer(ctx context.Context, q *question) error {
	p, ok := r.learner.trainer.(prober)
	if !ok {
		q.say(r.link, probed{err: errors.New(gate.NoProbe)})
		return nil
	}
	ctx, cancel := r.patient(ctx, "the answer to the gate's probe")
	defer cancel()
	// The coordinator may be tired of waiting before the trainer has computed.
	a, err := await(ctx, r, p.probe(q.record, q.weights), errDismissed)
	if err == nil {
		q.say(r.link, a)
	} else if x, ok := p.(*external); ok {
		err = x.probes.unanswered(err)
	}
	return err
}

// lends says whether the trainer is to compute a question between two steps: no further
// contribution begins until it has been told to.
func (r *runner) lends() bool { return r.gate != nil && r.gate.missing == 0 }

// lend has the trainer compute a question in the middle of training, at a boundary where no
// contribution is under way. The answer follows; nobody waits for it here.
func (r *runner) lend() {
	if !r.lends() || slices.ContainsFunc(r.learner.fragments, func(f *exchange) bool { return f.flight != nil }) {
		return
	}
	q := r.gate
	r.gate = nil
	b, ok := r.learner.trainer.(borrower)
	if q.err == nil && !ok {
		q.err = errors.New(gate.NoProbe)
	}
	if q.err != nil {
		q.say(r.link, probed{err: q.err})
		return
	}
	done := b.borrow(q.record, q.weights)
	r.asides.wg.Go(func() {
		select {
		case a := <-done:
			q.say(r.link, a)
		case <-r.asides.life.Done():
		}
	})
}

// say answers it.
func (q *question) say(k *link, a probed) {
	said, payload := &wire.GateAnswer{Checkpoint: q.checkpoint}, []byte(nil)
	if a.err == nil {
		payload, a.err = a.answer.Encode()
	}
	if a.err != nil {
		said.Reason = a.err.Error()
	}
	k.send(&wire.FromLearner{Body: &wire.FromLearner_GateAnswer{GateAnswer: said}}, payload)
}

// valueOf decodes a fragment.
func (r *runner) valueOf(fr *wire.Fragment, m transport.Down) ([]float32, error) {
	if int(fr.Fragment) >= len(r.learner.fragments) || m.Damaged {
		return nil, fmt.Errorf("fragment %d of %d came damaged or does not exist", fr.Fragment, len(r.learner.fragments))
	}
	value := make([]float32, r.learner.fragments[fr.Fragment].Size)
	if err := wire.DecodeF32(value, m.Payload); err != nil {
		return nil, fmt.Errorf("fragment %d: %w", fr.Fragment, err)
	}
	return value, nil
}

// probe computes at once.
func (n *native) probe(r gate.Record, weights []float32) <-chan probed {
	copy(n.engine.Params(), weights)
	if n.faults.Weights != nil {
		n.faults.Weights(n.engine.Params())
	}
	done := make(chan probed, 1)
	answer, err := probe.Answer(n.engine, n.profile, r, n.faults.Gradients)
	answer.Number = cmp.Or(n.faults.Declared, answer.Number)
	done <- probed{answer, err}
	return done
}

package island

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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

// probed is an answer, or why there is none.
type probed struct {
	answer gate.Record
	err    error
}

var _ prober = (*native)(nil)

// question is what the island was asked at the gate.
type question struct {
	record  gate.Record
	weights []float32 // flat in model order
	missing int       // fragments of weights that are to come
}

// atGate takes a message that belongs to the gate, and answers once all of the question
// is there.
func (r *runner) atGate(ctx context.Context, m transport.Down, w *wire.Welcome) (taken bool, err error) {
	switch b := m.Body.(type) {
	case *wire.ToLearner_Gate:
		if r.learner == nil {
			return true, errors.New("the gate came before the welcome")
		}
		if r.gate, err = questionOf(m, r.run, len(r.learner.fragments)); err != nil {
			return true, err
		}
	case *wire.ToLearner_Fragment:
		if r.gate == nil || r.gate.missing == 0 {
			return false, nil
		}
		value, err := r.valueOf(b.Fragment, m)
		if err != nil {
			return true, err
		}
		r.gate.take(r.learner.fragments[b.Fragment.Fragment].Fragment, value)
	case *wire.ToLearner_GateVerdict:
		r.log.Info("gate", "compared", b.GateVerdict.Passed, "reason", b.GateVerdict.Reason)
		return true, nil
	default:
		return false, nil
	}
	if r.gate.missing > 0 {
		return true, nil
	}
	q := r.gate
	r.gate = nil
	if err := r.welcomeCrew(ctx, w, int64(w.GetRestore().GetPosition())); err != nil {
		return true, err
	}
	return true, r.answer(ctx, q)
}

// questionOf reads what is asked of an island of the run.
func questionOf(m transport.Down, run runfile.Run, fragments int) (*question, error) {
	if m.Damaged {
		return nil, errors.New("the gate record came damaged")
	}
	record, err := gate.Decode(m.Payload)
	if err != nil {
		return nil, err
	}
	q := &question{record: record, weights: make([]float32, run.Size())}
	if record.Weights == gate.Sent {
		q.missing = fragments
		return q, nil
	}
	engine.InitParams(run.Model.Config, run.Seed, q.weights)
	gate.Sharpen(run.Model.Config, run.Seed, q.weights)
	return q, nil
}

// take takes a fragment of the weights that the probe is made on.
func (q *question) take(f fragment.Fragment, value []float32) {
	f.Scatter(q.weights, value)
	q.missing--
}

// answer computes the probe and says what came out.
func (r *runner) answer(ctx context.Context, q *question) error {
	p, ok := r.learner.trainer.(prober)
	if !ok {
		sayAnswer(r.link, probed{err: errors.New(gate.NoProbe)})
		return nil
	}
	ctx, cancel := r.patient(ctx, "the answer to the gate's probe")
	defer cancel()
	select {
	case a := <-p.probe(q.record, q.weights):
		sayAnswer(r.link, a)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func sayAnswer(k *link, a probed) {
	said, payload := &wire.GateAnswer{}, []byte(nil)
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

package oracle

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/model"
)

// measured is how far a learner is from the oracle on one subject.
type measured struct {
	losses    deviations // of one pass
	tensors   deviations // intermediate ones; of the twin only
	gradients deviations
	otherwise float64 // share of the pass's tokens that would choose otherwise

	short, whole   deviations // of the trace, up to the 50th step and in all
	weights, state deviations // after the trace; state is what no gradient moves
	traceOtherwise float64
	gap, spread    float64 // at the last step: of the loss, and between the oracle's own runs; without nudged runs NaN
}

// measure compares a learner, by name, with all that the oracle computed.
func (a *answers) measure(name string) (*measured, error) {
	if m, ok := a.measured[name]; ok {
		return m, nil
	}
	m := &measured{losses: deviations{}, tensors: deviations{}, gradients: deviations{},
		short: deviations{}, whole: deviations{}, weights: deviations{}, state: deviations{}, gap: math.NaN(), spread: math.NaN()}
	if err := a.measurePass(name, m); err != nil {
		return nil, fmt.Errorf("a pass of %s on %s: %w", a.name, name, err)
	}
	if a.trace != nil {
		if err := a.measureTrace(name, m); err != nil {
			return nil, fmt.Errorf("a trace of %s on %s: %w", a.name, name, err)
		}
	}
	a.measured[name] = m
	return m, nil
}

func (a *answers) measurePass(name string, m *measured) error {
	l, err := a.newLearner(name, a.params())
	if err != nil {
		return err
	}
	defer l.close()
	b, choices := a.batch(a.tokens(0, a.rows, a.seq), a.rows), a.pass.choices(a.cfg.Layers, 0, 1)
	b.Warmup = a.warmup(a.rows)
	own, err := l.own(b)
	if err != nil {
		return err
	}
	m.otherwise = differing(own, choices, a.cfg.TopK)
	seen := map[string][]float64{}
	if t, ok := l.(*twinLearner); ok {
		t.Observe = func(_ int, name string, tensor [][]float64) {
			for _, row := range tensor {
				seen[name] = append(seen[name], row...)
			}
		}
	}
	b.Choices = choices
	got, grads, err := l.gradient(b)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		name string
		got  float64
	}{{"targets", float64(got.targets)}, {"loss", got.loss}, {"balance", got.balance}, {"z", got.z}} {
		m.losses[x.name] = relative([]float64{x.got}, a.pass[x.name])
	}
	for name, values := range seen {
		m.tensors["value."+name] = relative(values, a.pass["value."+name])
	}
	for _, tensor := range a.cfg.Tensors() {
		if tensor.Kind != model.State {
			name := "grad." + tensor.Name
			m.gradients[name] = relative(grads[tensor.Offset:tensor.Offset+tensor.Size()], a.pass[name])
		}
	}
	return nil
}

// measureTrace trains beside the oracle, for as many steps as it did.
func (a *answers) measureTrace(name string, m *measured) error {
	l, err := a.newLearner(name, a.start())
	if err != nil {
		return err
	}
	defer l.close()
	batches, tokens, steps := a.traceTokens(), int64(0), len(a.trace["loss"])
	for step := range steps {
		b := a.batch(batches[step%len(batches)], traceRows)
		choices := a.trace.choices(a.cfg.Layers, step, steps)
		own, err := l.own(b)
		if err != nil {
			return err
		}
		m.traceOtherwise += differing(own, choices, a.cfg.TopK) / float64(steps)
		b.Choices = choices
		got, _, err := l.gradient(b)
		if err != nil {
			return err
		}
		tokens += int64(got.targets)
		rate := schedule().Rate(tokens)
		norm, loss := l.step(got.targets, rate), got.loss/float64(got.targets)
		for _, x := range []struct {
			name string
			got  float64
		}{{"loss", loss}, {"grad_norm", norm}, {"balance", got.balance}, {"z", got.z}, {"rate", rate}} {
			off := relative([]float64{x.got}, a.trace[x.name][step:step+1])
			if step < shortTrace {
				m.short.raise(x.name, off)
			}
			m.whole.raise(x.name, off)
		}
		if step == steps-1 && len(a.nudged) > 0 {
			m.gap, m.spread = math.Abs(loss-a.trace["loss"][step]), a.spreadAt(step)
		}
	}
	params := l.params()
	for _, tensor := range a.cfg.Tensors() {
		name, into := "weight."+tensor.Name, m.weights
		if tensor.Kind == model.State {
			into = m.state
		}
		into[name] = relative(params[tensor.Offset:tensor.Offset+tensor.Size()], a.trace[name])
	}
	return nil
}

// spreadAt is the distance between the lowest and the highest loss at a step of
// all runs of the oracle.
func (a *answers) spreadAt(step int) float64 {
	low := a.trace["loss"][step]
	high := low
	for _, run := range a.nudged {
		low, high = min(low, run["loss"][step]), max(high, run["loss"][step])
	}
	return high - low
}

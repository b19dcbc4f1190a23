package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/engine/numeric"
)

// amaxRoles is the number of tensors of a linear map that have a scale: its input, its
// weight and the gradient of its output.
const amaxRoles = 3

// tensor is the number of one of them.
func tensor(linear int, role numeric.Role) int { return linear*amaxRoles + int(role) }

// amaxes are the largest magnitudes of all tensors that one worker has seen in a step,
// as bits of float32, which are ordered as the magnitudes are, NaN last. Maxima of
// maxima do not depend on who took which part.
type amaxes []uint32

func (a amaxes) see(linear int, role numeric.Role, amax float32) {
	at := tensor(linear, role)
	a[at] = max(a[at], math.Float32bits(amax))
}

// delayed is scaling per tensor from the steps before (numeric.PerTensor).
type delayed struct {
	history []float32 // [AmaxHistory][tensors], the newest step first; 0: nothing seen
	tensors int
	formats [numeric.Operators][amaxRoles]numeric.Format
	ops     []numeric.Operator // of each linear map
	scales  []float32          // [tensors][2] scale and inverse
}

// newDelayed is nil unless a rule scales per tensor.
func newDelayed(p *numeric.Profile, ops []numeric.Operator) *delayed {
	d := &delayed{tensors: len(ops) * amaxRoles, ops: ops}
	used := false
	for o, r := range p.Rules {
		used = used || r.Scaling == numeric.PerTensor
		for role := range amaxRoles {
			d.formats[o][role] = r.Of(numeric.Role(role))
		}
	}
	if !used {
		return nil
	}
	d.history, d.scales = floats(numeric.AmaxHistory*d.tensors), floats(2*d.tensors)
	d.rescale()
	return d
}

// scale gives a tensor's scale and its inverse.
func (d *delayed) scale(linear int, role numeric.Role) (scale, inverse float32) {
	at := 2 * tensor(linear, role)
	return d.scales[at], d.scales[at+1]
}

// rescale works out all scales from the history.
func (d *delayed) rescale() {
	for t := range d.tensors {
		most := float32(0)
		for step := range numeric.AmaxHistory {
			most = max(most, d.history[step*d.tensors+t])
		}
		format := d.formats[d.ops[t/amaxRoles]][t%amaxRoles]
		d.scales[2*t], d.scales[2*t+1] = 1, 1
		if format.Bits() == 8 {
			d.scales[2*t], d.scales[2*t+1] = format.Scale(most)
		}
	}
}

// advance puts what the workers saw in front of the history and forgets the oldest step.
// A magnitude that is not finite is left out: its step is not applied, and the next ones
// must not suffer from it. Where nothing was seen nothing moves.
func (d *delayed) advance(workers []*worker) {
	step := floats(d.tensors)
	for t := range step {
		most := uint32(0)
		for _, w := range workers {
			most = max(most, w.amax[t])
			w.amax[t] = 0
		}
		if most < 0x7f800000 {
			step[t] = math.Float32frombits(most)
		}
	}
	if !slices.ContainsFunc(step, func(x float32) bool { return x != 0 }) {
		return
	}
	copy(d.history[d.tensors:], d.history[:len(d.history)-d.tensors])
	copy(d.history, step)
	d.rescale()
}

// NumericState is what the numeric profile carries from step to step: the magnitudes
// that scales per tensor come from, [AmaxHistory][tensors]. It is the engine's own,
// and nil under a profile that carries nothing. It is asked for between steps.
func (e *Engine) NumericState() []float32 {
	if e.delayed == nil {
		return nil
	}
	e.delayed.advance(e.pool.workers)
	return e.delayed.history
}

// SetNumericState restores a state, and refuses one of another length or with values
// that no magnitude has.
func (e *Engine) SetNumericState(state []float32) error {
	if own := e.NumericState(); len(state) != len(own) {
		return fmt.Errorf("numeric state of %d values, %s has %d", len(state), e.Numeric(), len(own))
	}
	for i, x := range state {
		if !(x >= 0) || math.IsInf(float64(x), 0) {
			return fmt.Errorf("numeric state: value %d is %v, not a magnitude", i, x)
		}
	}
	if e.delayed != nil {
		copy(e.delayed.history, state)
		e.delayed.rescale()
	}
	return nil
}

package island

import (
	"math"
	"math/bits"
	"slices"

	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/store"
)

// lossScaling is dynamic loss scaling, for profiles that have it.
type lossScaling struct {
	on    bool
	scale numeric.LossScale
	share float32 // of the scale in a token's loss: 1 over the tokens of a step, rounded down to a power of two
}

func newLossScaling(p *numeric.Profile, stepTokens int64) lossScaling {
	if p == nil || !p.LossScaling {
		return lossScaling{}
	}
	share := 1 / float32(uint64(1)<<bits.Len64(uint64(stepTokens-1)))
	return lossScaling{on: true, scale: numeric.NewLossScale(), share: share}
}

// factor is what the engine multiplies losses by, a power of two. The engine sums losses
// over tokens, and the scale is meant for their mean.
func (s *lossScaling) factor() float32 {
	if !s.on {
		return 1
	}
	return s.scale.Value * s.share
}

// tooLarge: the gradient overflowed, and a smaller scale may be the remedy. At a scale of
// 1 or below it is not, nor when the loss itself is no number.
func (s *lossScaling) tooLarge(o outcome) bool {
	return s.on && s.scale.Value > 1 && finite(o.loss) && !finite(o.norm)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// after counts a step.
func (s *lossScaling) after(overflow bool) {
	if s.on {
		s.scale = s.scale.Next(overflow)
	}
}

// restore takes over a saved scale. One island scales and another does not: a scale that
// nobody uses any more, or none where one is needed, is told and begins anew.
func (s *lossScaling) restore(f *stateFile) error {
	saved := numeric.LossScale{Value: f.counters.LossScale, Good: f.counters.GoodSteps}
	none := saved == numeric.LossScale{}
	switch {
	case s.on && none:
		f.remark("the loss scale begins anew at %v: it was saved without one", s.scale.Value)
	case s.on:
		if err := saved.Check(); err != nil {
			return err
		}
		s.scale = saved
	case !none:
		f.remark("it was saved with a loss scale of %v, and this island scales none", saved.Value)
	}
	return nil
}

// amaxName is the tensor of what the numeric profile carries from step to step.
const amaxName = "numeric.amax"

// numericTensors is a copy of that, if there is any.
func (n *native) numericTensors() []store.Tensor {
	state := n.engine.NumericState()
	if state == nil {
		return nil
	}
	shape := []int{numeric.AmaxHistory, len(state) / numeric.AmaxHistory}
	return []store.Tensor{{Name: amaxName, Shape: shape, F32: slices.Clone(state)}}
}

// restoreNumeric takes over what numericTensors gave, if the state is of the same profile.
func (n *native) restoreNumeric(f *stateFile) error {
	state := slices.Clone(n.engine.NumericState())
	if state == nil {
		return nil
	}
	if !slices.ContainsFunc(f.Tensors(), func(t store.TensorInfo) bool { return t.Name == amaxName }) {
		f.remark("the scales of 8-bit products begin anew: it was saved without any")
		return nil
	}
	if err := f.ReadF32(amaxName, state); err != nil {
		return err
	}
	return n.engine.SetNumericState(state)
}

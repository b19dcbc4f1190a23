package island

import (
	"fmt"
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

// restore takes over a saved scale; the zero scale is that of a learner without scaling.
func (s *lossScaling) restore(saved numeric.LossScale) error {
	switch {
	case s.on:
		if err := saved.Check(); err != nil {
			return err
		}
		s.scale = saved
	case saved != numeric.LossScale{}:
		return fmt.Errorf("it was saved with a loss scale of %v, and this island scales none", saved.Value)
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

// restoreNumeric takes over what numericTensors gave.
func (n *native) restoreNumeric(r *store.Reader) error {
	state := slices.Clone(n.engine.NumericState())
	if state == nil {
		return nil
	}
	if err := r.ReadF32(amaxName, state); err != nil {
		return err
	}
	return n.engine.SetNumericState(state)
}

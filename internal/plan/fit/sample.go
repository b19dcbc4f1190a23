package fit

import (
	"math"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Sample is a published run as a question to the cost model, with what was measured.
type Sample struct {
	Case    published.Case
	Task    plan.Task
	Chip    plan.Hardware
	Layout  plan.Layout
	Seconds float64 // of a step, measured

	model *plan.Model
}

// Samples are the comparable runs of a side.
func Samples(chips chip.Catalogue, side published.Side) []Sample {
	split := published.BuiltinSplit(chips)
	var out []Sample
	for _, r := range published.Builtin() {
		if split.Calibrates(r) != (side == published.Calibration) {
			continue
		}
		if s, err := NewSample(r, split, chips); err == nil {
			out = append(out, s)
		}
	}
	return out
}

// NewSample puts a run as a question. The error says why it cannot be compared.
func NewSample(r published.Run, split published.Split, chips chip.Catalogue) (Sample, error) {
	c, err := r.Case(chips)
	if err != nil {
		return Sample{}, err
	}
	step, err := c.Step(split.Of(r.Source).Counts)
	if err != nil {
		return Sample{}, err
	}
	s, err := newSample(c)
	s.Seconds = step.Seconds
	return s, err
}

func newSample(c published.Case) (Sample, error) {
	s := Sample{Case: c}
	var err error
	if s.Task, s.Chip, s.Layout, err = OfCase(c); err != nil {
		return s, err
	}
	s.model, err = plan.PrepareFor(s.Task, s.Chip, plan.BuiltinConstants(), s.Layout.TP)
	return s, err
}

// Predict is what the model says.
func (s Sample) Predict(k plan.Constants) plan.Step { return s.model.With(k).Step(s.Layout) }

// off is the logarithm of predicted over measured.
func (s Sample) off(k plan.Constants) float64 {
	return math.Log(s.model.With(k).Time(s.Layout).Seconds / s.Seconds)
}

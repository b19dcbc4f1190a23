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
	s := Sample{Case: c, Seconds: step.Seconds}
	s.Task, s.Chip, s.Layout, err = OfCase(c)
	return s, err
}

// Predict is what the model says.
func (s Sample) Predict(k plan.Constants) (plan.Step, error) {
	m, err := plan.PrepareFor(s.Task, s.Chip, k, s.Layout.TP)
	if err != nil {
		return plan.Step{}, err
	}
	return m.Step(s.Layout), nil
}

// off is the logarithm of predicted over measured.
func (s Sample) off(k plan.Constants) float64 {
	step, err := s.Predict(k)
	if err != nil {
		panic("fit: " + s.Case.Run.ID + ": " + err.Error())
	}
	return math.Log(step.Seconds / s.Seconds)
}

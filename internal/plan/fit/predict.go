package fit

import (
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Predictor predicts published runs with these constants.
func Predictor(k plan.Constants) func(published.Case) (plan.Step, error) {
	return func(c published.Case) (plan.Step, error) {
		s, err := newSample(c)
		if err != nil {
			return plan.Step{}, err
		}
		return s.Predict(k), nil
	}
}

package validate

import (
	"maps"
	"slices"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Predictor predicts a step of a run. An error says what keeps it from that.
type Predictor func(published.Case) (plan.Step, error)

// Question is what is asked for.
type Question struct {
	Runs    []published.Run
	Chips   chip.Catalogue
	Split   published.Split
	Predict Predictor
	// Anchor lets the first run of each source and chip that calibration has not seen set a
	// factor for the others of them.
	Anchor bool
}

// Result is the answer.
type Result struct {
	Summary Summary `json:"summary"`
	Rows    []Row   `json:"rows"` // in the order of the runs
}

// judge is what rows are judged by.
type judge struct {
	chips   chip.Catalogue
	split   published.Split
	predict Predictor
	twins   map[string]bool    // of runs that are fitted to
	seen    map[[2]string]bool // source and chip of runs that are fitted to
}

// Of predicts the runs and sums up.
func Of(q Question) Result {
	j := judge{chips: q.Chips, split: q.Split, predict: q.Predict, twins: map[string]bool{}, seen: map[[2]string]bool{}}
	for _, run := range published.Builtin() {
		if c, err := run.Case(q.Chips); err == nil && q.Split.Calibrates(run) {
			j.twins[c.Twin()] = true
			j.seen[[2]string{run.Source, c.Chip.Name}] = true
		}
	}
	rows := make([]Row, 0, len(q.Runs))
	for _, run := range q.Runs {
		rows = append(rows, j.row(run))
	}
	if q.Anchor {
		j.anchor(rows)
	}
	return Result{Summary: summaryOf(rows, q.Anchor), Rows: rows}
}

// anchor lets the first row of each source and chip that calibration has not seen set
// the factor of the others: what its machines and its way of measuring make of a step.
func (j judge) anchor(rows []Row) {
	factors := map[[2]string]Number{}
	for i := range rows {
		r := &rows[i]
		of := [2]string{r.Source, r.Chip}
		if r.Skipped != "" || j.seen[of] {
			continue
		}
		factor, ok := factors[of]
		if !ok {
			factors[of] = r.Measured / r.Predicted
			r.Anchor, r.Error = true, Unknown()
			continue
		}
		r.Predicted, r.Low, r.High = r.Predicted*factor, r.Low*factor, r.High*factor
		r.Error = r.Predicted/r.Measured - 1
	}
}

// sorted are the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

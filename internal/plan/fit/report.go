package fit

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Observations are what constants are fitted to: the calibration runs, and products
// that were measured alone. A median over hundreds of shapes weighs as much as three runs.
func Observations(samples []Sample, chips chip.Catalogue) []Observation {
	var out []Observation
	for _, s := range samples {
		out = append(out, s)
	}
	for range 3 {
		for _, k := range Kernels(chips) {
			out = append(out, k)
		}
	}
	return out
}

// Constants fits all from their first values, and tells for each how many calibration
// runs move it.
func Constants(chips chip.Catalogue, first plan.Constants) plan.Constants {
	samples := Samples(chips, published.Calibration)
	k := withRows(samples, Fit(Observations(samples, chips), first, Frees()))
	k = k.With(spreads(LeftOut(samples, chips, first, Source))...)
	return k.With(ofFamilies(LeftOut(samples, chips, first, Fold))...)
}

// within is the share of runs that a range is taken from. The printed range is one of 80 %;
// formulas, too, were chosen on these runs, which leaving them out does not undo.
const within = 0.85

// spreads are how far, as logarithms, that share of predictions lies at most from what
// was measured when the whole source was left out: of sources whose software others use
// too, dense and with experts; and of all others.
func spreads(left []Scored) []plan.Constant {
	by := map[string][]float64{}
	stacks := map[plan.Stack][]string{}
	for _, s := range left {
		if t := s.Sample.Task.Stack; !slices.Contains(stacks[t], Source(s.Sample)) {
			stacks[t] = append(stacks[t], Source(s.Sample))
		}
	}
	for _, s := range left {
		name := "range.dense"
		switch {
		case len(stacks[s.Sample.Task.Stack]) == 1:
			name = "range.other"
		case s.Sample.Case.Run.MoE():
			name = "range.experts"
		}
		by[name] = append(by[name], math.Abs(math.Log1p(s.Error)))
	}
	var out []plan.Constant
	for _, name := range []string{"range.dense", "range.experts", "range.other"} {
		slices.Sort(by[name])
		out = append(out, plan.Constant{Name: name, Value: plan.Quantile(by[name], within), Rows: len(by[name])})
	}
	return out
}

// ofFamilies is the same of families of chips that have one source only, with runs
// left out by fifths: leaving that source out would tell of a chip that nothing was fitted to.
func ofFamilies(left []Scored) []plan.Constant {
	by, sources := map[string][]float64{}, map[string][]string{}
	for _, s := range left {
		f := s.Sample.Chip.Family()
		by[f] = append(by[f], math.Abs(math.Log1p(s.Error)))
		if !slices.Contains(sources[f], Source(s.Sample)) {
			sources[f] = append(sources[f], Source(s.Sample))
		}
	}
	var out []plan.Constant
	for _, f := range slices.Sorted(maps.Keys(by)) {
		if len(sources[f]) == 1 {
			slices.Sort(by[f])
			out = append(out, plan.Constant{Name: "range." + f, Value: plan.Quantile(by[f], within), Rows: len(by[f])})
		}
	}
	return out
}

// moves is by how much the logarithm of a run's time must change with that of a constant
// for the run to count among those that the constant rests on.
const moves = 0.005

func withRows(samples []Sample, k plan.Constants) plan.Constants {
	for _, f := range Frees() {
		c := k.Of(f.Name)
		c.Rows = 0
		const nudge = 0.01
		shifted := k.With(plan.Constant{Name: f.Name, Value: c.Value * math.Exp(nudge)})
		for _, s := range samples {
			if math.Abs(s.off(shifted)-s.off(k)) > moves*nudge {
				c.Rows++
			}
		}
		k = k.With(c)
	}
	return k
}

// Errors are how far predictions are off, as fractions.
type Errors struct {
	Rows        int
	Median, P90 float64
}

// Scored is a run with its error.
type Scored struct {
	Sample Sample
	Error  float64 // predicted / measured − 1
}

// Sum sums errors up.
func Sum(all []Scored) Errors {
	var x []float64
	for _, s := range all {
		x = append(x, math.Abs(s.Error))
	}
	slices.Sort(x)
	return Errors{len(x), plan.Quantile(x, 0.5), plan.Quantile(x, 0.9)}
}

// Score predicts runs.
func Score(samples []Sample, k plan.Constants) []Scored {
	var out []Scored
	for _, s := range samples {
		out = append(out, Scored{s, s.Predict(k).Seconds/s.Seconds - 1})
	}
	return out
}

// LeftOut predicts each run with constants that were fitted without all runs of its
// group.
func LeftOut(samples []Sample, chips chip.Catalogue, first plan.Constants, group func(Sample) string) []Scored {
	var out []Scored
	for _, g := range groups(samples, group) {
		var in, left []Sample
		for _, s := range samples {
			if group(s) == g {
				left = append(left, s)
			} else {
				in = append(in, s)
			}
		}
		out = append(out, Score(left, Fit(Observations(in, chips), first, Frees()))...)
	}
	return out
}

func groups(samples []Sample, group func(Sample) string) []string {
	var out []string
	for _, s := range samples {
		if g := group(s); !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	slices.Sort(out)
	return out
}

// Fold puts a run into one of five by its id.
func Fold(s Sample) string {
	h := fnv.New32a()
	h.Write([]byte(s.Case.Run.ID))
	return string(rune('1' + h.Sum32()%5))
}

// Source is where a run was published.
func Source(s Sample) string { return s.Case.Run.Source }

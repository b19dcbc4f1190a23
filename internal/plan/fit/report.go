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
	left := LeftOut(samples, chips, first, Source)
	return k.With(append(spreads(left), anchors(left)...)...)
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

// anchors are how much of what one run of a source is off by, as a logarithm, the others
// on the same chip share: the slope of their errors on its own, over all pairs, when
// the whole source was left out. A run that stands for its source corrects the others by
// that part. Sisters are sources of a page that calibration has another part of.
func anchors(left []Scored) []plan.Constant {
	parts := map[string]map[string]bool{}
	for _, s := range left {
		page := published.Page(Source(s.Sample))
		if parts[page] == nil {
			parts[page] = map[string]bool{}
		}
		parts[page][Source(s.Sample)] = true
	}
	by := map[string][]Scored{}
	for _, s := range left {
		name := "anchor"
		if len(parts[published.Page(Source(s.Sample))]) > 1 {
			name = "anchor.sister"
		}
		by[name] = append(by[name], s)
	}
	return []plan.Constant{alike("anchor", by["anchor"]), alike("anchor.sister", by["anchor.sister"])}
}

// alike is the slope between errors of a source and chip, over all pairs.
func alike(name string, left []Scored) plan.Constant {
	type sums struct{ n, one, two float64 }
	by := map[[2]string]sums{}
	for _, s := range left {
		of, e := [2]string{Source(s.Sample), s.Sample.Chip.Chip}, math.Log1p(s.Error)
		g := by[of]
		by[of] = sums{g.n + 1, g.one + e, g.two + e*e}
	}
	shared, all, rows := 0.0, 0.0, 0.0
	for _, of := range slices.SortedFunc(maps.Keys(by), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		if g := by[of]; g.n > 1 {
			shared += (g.one*g.one - g.two) / (g.n - 1)
			all += g.two
			rows += g.n
		}
	}
	return plan.Constant{Name: name, Value: min(max(shared/all, 0), 1), Rows: int(rows)}
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

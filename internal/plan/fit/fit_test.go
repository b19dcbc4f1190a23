package fit

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// The constants that the program has are where the fit ends: it does not move on from
// there. Fitting from the first values, and leaving sources out, is done when the page
// is written.
func TestConstantsAreTheFit(t *testing.T) {
	chips, k := chip.Builtin(), plan.BuiltinConstants()
	samples := Samples(chips, published.Calibration)
	at := make([]float64, len(Frees()))
	for i, f := range Frees() {
		at[i] = math.Log(k.Of(f.Name).Value)
	}
	observations := Observations(samples, chips)
	before := total(observations, k, Frees(), at)
	after := fitFrom(observations, k, Frees(), at, 4)
	for i, f := range Frees() {
		at[i] = math.Log(after.Of(f.Name).Value)
	}
	if gain := 1 - total(observations, after, Frees(), at)/before; gain > 0.01 {
		t.Errorf("fitting further takes off %.1f %% of the loss: write the constants anew (go test ./internal/plan/fit -run TestPage -rewrite)", 100*gain)
	}
}

func TestEveryConstantRestsOnFiveRuns(t *testing.T) {
	k := plan.BuiltinConstants()
	samples := Samples(chip.Builtin(), published.Calibration)
	counted := withRows(samples, k)
	for _, f := range Frees() {
		c := k.Of(f.Name)
		if n := counted.Of(f.Name).Rows; c.Rows != n || n < 5 {
			t.Errorf("%s rests on %d runs, and the file says %d", f.Name, n, c.Rows)
		}
		if c.Value < f.Low*0.999 || c.Value > f.High*1.001 {
			t.Errorf("%s = %g, not within %g to %g", f.Name, c.Value, f.Low, f.High)
		}
	}
}

// Runs that are made up by the model with other constants give those constants back, as
// far as anything depends on them.
func TestFitFindsConstants(t *testing.T) {
	k := plan.BuiltinConstants()
	samples := Samples(chip.Builtin(), published.Calibration)
	names := []string{"product.bf16.sm_90", "elementwise", "tp.classic", "ep"}
	truth := k
	for i, n := range names {
		c := k.Of(n)
		c.Value *= []float64{0.85, 1.2, 0.8, 1.3}[i]
		truth = truth.With(c)
	}
	var made []Observation
	for _, s := range samples {
		s.Seconds = s.Predict(truth).Seconds
		made = append(made, s)
	}
	var free []Free
	for _, n := range names {
		free = append(free, Free{n, k.Of(n).Value, 5, 1e-3, 10})
	}
	found := Fit(made, k, free)
	for _, n := range names {
		if a, b := found.Of(n).Value, truth.Of(n).Value; math.Abs(a/b-1) > 0.01 {
			t.Errorf("%s: found %g, it was %g", n, a, b)
		}
	}
}

// The direction is that of the slopes of the loss, taken one by one.
func TestDirectionLowersTheLoss(t *testing.T) {
	k := plan.BuiltinConstants()
	samples := Samples(chip.Builtin(), published.Calibration)[:60]
	var some []Observation
	for _, s := range samples {
		some = append(some, s)
	}
	free := Frees()
	at := make([]float64, len(free))
	for i, f := range free {
		at[i] = math.Log(f.First)
	}
	step := direction(some, k, free, at, 1)
	here := total(some, apply(k, free, at), free, at)
	slope := 0.0
	const nudge = 1e-5
	for i := range free {
		moved := append([]float64(nil), at...)
		moved[i] += nudge
		slope += step[i] * (total(some, apply(k, free, moved), free, moved) - here) / nudge
	}
	if slope >= 0 {
		t.Errorf("the loss rises by %g along the step", slope)
	}
}

package fit

import (
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// The constants of memory are what the calibration rows give, and say how many those are.
func TestMemoryConstantsAreThoseOfTheFit(t *testing.T) {
	peaks := Peaks(published.Builtin(), chip.Builtin(), plan.BuiltinConstants())
	context, gaps := Memory(peaks)
	k := plan.MemoryConstants().All()
	if len(k) != 2 || k[0].Value != context || k[1].Value != gaps || k[0].Rows != len(peaks) || k[1].Rows != len(peaks) {
		t.Errorf("%v, the fit gives %g and %g of %d rows", k, context, gaps, len(peaks))
	}
	var errors []float64
	for _, p := range peaks {
		errors = append(errors, math.Abs(p.Error(context, gaps)))
	}
	slices.Sort(errors)
	if median := errors[len(errors)/2]; median > 0.06 {
		t.Errorf("median error %.1f %%", 100*median)
	}
}

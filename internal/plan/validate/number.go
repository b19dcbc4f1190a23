package validate

import (
	"encoding/json"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/plan"
)

// Number is a number that may not be known: NaN, null in JSON.
type Number float64

// Unknown is no number.
func Unknown() Number { return Number(math.NaN()) }

// Known says that it is one.
func (n Number) Known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON writes what is not known as null.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// Reason is why a row is passed over; empty, null in JSON: it is not.
type Reason string

// MarshalJSON writes no reason as null.
func (r Reason) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(r))
}

// quantile is that of package plan; unknown of none.
func quantile(ordered []float64, share float64) Number { return Number(plan.Quantile(ordered, share)) }

// Stats are the errors of some rows, as fractions of what was measured.
type Stats struct {
	Median Number `json:"median_abs_error"`
	P90    Number `json:"p90_abs_error"`
	Bias   Number `json:"bias"` // the median error with its sign
}

func statsOf(errors []float64) Stats {
	signed := slices.Sorted(slices.Values(errors))
	sizes := slices.Clone(signed)
	for i := range sizes {
		sizes[i] = math.Abs(sizes[i])
	}
	slices.Sort(sizes)
	return Stats{Median: quantile(sizes, 0.5), P90: quantile(sizes, 0.9), Bias: quantile(signed, 0.5)}
}

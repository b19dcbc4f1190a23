package ledger

import (
	"encoding/json"
	"math"
	"strconv"
)

// Value is a measured number that may be unknown (the zero Value) or non-finite.
// Neither is ever shown as a number: unknown reads null in JSON and "-" in text,
// non-finite reads "non-finite" in both.
type Value struct {
	number float64
	known  bool
}

// Known is the value x, which may be NaN or infinite.
func Known(x float64) Value { return Value{number: x, known: true} }

// Get gives the number; ok is false when it is unknown or non-finite.
func (v Value) Get() (x float64, ok bool) { return v.number, v.known && !v.nonFinite() }

// Text formats the value with so many decimals.
func (v Value) Text(decimals int) string {
	switch {
	case !v.known:
		return "-"
	case v.nonFinite():
		return nonFinite
	default:
		return strconv.FormatFloat(v.number, 'f', decimals, 64)
	}
}

// MarshalJSON writes a number, null or "non-finite".
func (v Value) MarshalJSON() ([]byte, error) {
	switch {
	case !v.known:
		return []byte("null"), nil
	case v.nonFinite():
		return json.Marshal(nonFinite)
	default:
		return json.Marshal(v.number)
	}
}

// UnmarshalJSON reads what MarshalJSON writes; any non-finite value reads as NaN.
func (v *Value) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "null":
		*v = Value{}
		return nil
	case strconv.Quote(nonFinite):
		*v = Known(math.NaN())
		return nil
	}
	var x float64
	if err := json.Unmarshal(data, &x); err != nil {
		return err // v stays what it was: unknown must not become 0
	}
	*v = Known(x)
	return nil
}

const nonFinite = "non-finite"

func (v Value) nonFinite() bool { return math.IsNaN(v.number) || math.IsInf(v.number, 0) }

// Amount writes a count with three digits and a unit: 950, 12.3k, 3.05M, 1.20B.
func Amount(n float64) string { return threeDigits(n, []string{"", "k", "M", "B", "T"}) }

// Bytes writes a size with three digits, in powers of ten, as disks are sold.
func Bytes(n int64) string {
	return threeDigits(float64(n), []string{" B", " kB", " MB", " GB", " TB", " PB", " EB"})
}

// threeDigits writes n in the unit, each a thousand of the one before, that leaves at
// most three digits before the point; without a unit it is whole.
func threeDigits(n float64, units []string) string {
	u := 0
	for math.Abs(n) >= 999.5 && u < len(units)-1 {
		n, u = n/1000, u+1
	}
	decimals := 0
	switch size := math.Abs(n); {
	case u == 0:
	case size < 9.995:
		decimals = 2
	case size < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(n, 'f', decimals, 64) + units[u]
}

package attach

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Number is a float that may be no number: JSON has none for these, so that they are
// the strings "nan", "inf" and "-inf".
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	switch f := float64(n); {
	case math.IsNaN(f):
		return []byte(`"nan"`), nil
	case math.IsInf(f, 1):
		return []byte(`"inf"`), nil
	case math.IsInf(f, -1):
		return []byte(`"-inf"`), nil
	default:
		return strconv.AppendFloat(nil, f, 'g', -1, 64), nil
	}
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"nan"`:
		*n = Number(math.NaN())
	case `"inf"`:
		*n = Number(math.Inf(1))
	case `"-inf"`:
		*n = Number(math.Inf(-1))
	default:
		f, err := strconv.ParseFloat(string(data), 64)
		if err != nil {
			return fmt.Errorf("%.40s is neither a number nor nan, inf or -inf", data)
		}
		*n = Number(f)
	}
	return nil
}

// Or is the number, or instead where there is none.
func (n *Number) Or(instead float64) float64 {
	if n == nil {
		return instead
	}
	return float64(*n)
}

// NumberOf points to a number.
func NumberOf(f float64) *Number {
	n := Number(f)
	return &n
}

// MarshalJSON implements json.Marshaler: [from, to, retry].
func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal([]any{s.From, s.To, s.Retry}) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Span) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	if len(parts) != 3 {
		return fmt.Errorf("samples of %d parts, not from, to and retry", len(parts))
	}
	for i, to := range []any{&s.From, &s.To, &s.Retry} {
		if err := json.Unmarshal(parts[i], to); err != nil {
			return err
		}
	}
	return nil
}

// Document is JSON that stands in a message as it is.
type Document = json.RawMessage

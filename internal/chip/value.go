package chip

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Words that stand for a value which is not a number or text.
const (
	unknownWord = "unknown" // nobody knows, or nobody says
	noneWord    = "none"    // known to be absent
)

// Value is what a figure says: nothing (the zero Value: unknown), that the chip has
// no such thing, one or more numbers, or text.
type Value struct {
	none    bool
	text    string
	numbers []float64 // one; the lowest and the highest; or variants, rising
	spread  bool      // the two numbers are the ends of a range
}

// Number is the value x.
func Number(x float64) Value { return Value{numbers: []float64{x}} }

// Known says that there is something: a number, text, or a known absence.
func (v Value) Known() bool { return v.none || v.text != "" || len(v.numbers) > 0 }

// None says that the chip is known not to have it.
func (v Value) None() bool { return v.none }

// Text is the words of a value that is text.
func (v Value) Text() string { return v.text }

// Range gives the lowest and the highest number; ok is false without any.
func (v Value) Range() (low, high float64, ok bool) {
	if len(v.numbers) == 0 {
		return 0, 0, false
	}
	return v.numbers[0], v.numbers[len(v.numbers)-1], true
}

// Exact gives the number where there is just one.
func (v Value) Exact() (x float64, ok bool) {
	low, high, ok := v.Range()
	return low, ok && low == high
}

// Variants are the numbers of which each is true of some kind of the chip, or of
// some machine with it; a range has none.
func (v Value) Variants() []float64 {
	if v.spread {
		return nil
	}
	return slices.Clone(v.numbers)
}

// Equal compares two values.
func (v Value) Equal(w Value) bool {
	return v.none == w.none && v.text == w.text && v.spread == w.spread && slices.Equal(v.numbers, w.numbers)
}

// String is the value as it stands in a file.
func (v Value) String() string {
	switch {
	case !v.Known():
		return unknownWord
	case v.none:
		return noneWord
	case v.text != "":
		return v.text
	}
	words := make([]string, len(v.numbers))
	for i, x := range v.numbers {
		words[i] = strconv.FormatFloat(x, 'f', -1, 64)
	}
	if v.spread {
		return strings.Join(words, rangeMark)
	}
	return strings.Join(words, orMark)
}

const (
	rangeMark = ".."
	orMark    = " or "
	most      = 1e9 // of a number: no unit here needs more
)

var decimal = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$`)

// parseNumbers reads a number, a range or variants; the error says what is wrong.
func parseNumbers(s string) (Value, error) {
	var v Value
	words := strings.Split(s, orMark)
	if low, high, ok := strings.Cut(s, rangeMark); ok {
		words, v.spread = []string{low, high}, true
	}
	for _, word := range words {
		x, err := parseNumber(word)
		if err != nil {
			return Value{}, err
		}
		if n := len(v.numbers); n > 0 && x <= v.numbers[n-1] {
			return Value{}, fmt.Errorf("has numbers that do not rise")
		}
		v.numbers = append(v.numbers, x)
	}
	return v, nil
}

// parseNumber reads one number above 0.
func parseNumber(s string) (float64, error) {
	if !decimal.MatchString(s) {
		return 0, fmt.Errorf("is no number")
	}
	x, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || x > most:
		return 0, fmt.Errorf("is too large")
	case x == 0:
		return 0, fmt.Errorf("is 0, which no figure is")
	}
	return x, nil
}

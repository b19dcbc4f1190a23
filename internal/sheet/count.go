package sheet

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Count is a number of tokens. It is written 400k, 2M, 1B, 1.5M or in digits;
// "auto" is [Auto].
type Count int64

// Auto stands for a count that is worked out from other values.
const Auto Count = -1

var errCount = errors.New("is not a count of tokens")

// ParseCount reads a count as a person writes it.
func ParseCount(s string) (Count, error) {
	if s == "auto" {
		return Auto, nil
	}
	digits, scale := s, 1.0
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'k', 'K':
			digits, scale = s[:n-1], 1e3
		case 'M':
			digits, scale = s[:n-1], 1e6
		case 'B', 'G':
			digits, scale = s[:n-1], 1e9
		case 'T':
			digits, scale = s[:n-1], 1e12
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789._") != "" {
		return 0, errCount
	}
	if scale == 1 {
		n, err := strconv.ParseInt(strings.ReplaceAll(digits, "_", ""), 10, 64)
		if err != nil {
			return 0, errCount
		}
		return Count(n), nil
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(digits, "_", ""), 64)
	if err != nil || f*scale >= math.MaxInt64 {
		return 0, errCount
	}
	return Count(math.Round(f * scale)), nil
}

// SetText makes Count a [Texter].
func (c *Count) SetText(text string) (err error) {
	*c, err = ParseCount(text)
	return err
}

// Wanted makes Count a [Texter].
func (*Count) Wanted() string { return "a number of tokens such as 400k, 2M or 1B" }

// String is the shortest exact form; ParseCount reads it back.
func (c Count) String() string {
	if c == Auto {
		return "auto"
	}
	for _, u := range []struct {
		size   Count
		letter string
	}{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if c != 0 && c%u.size == 0 {
			return fmt.Sprintf("%d%s", int64(c/u.size), u.letter)
		}
	}
	return strconv.FormatInt(int64(c), 10)
}

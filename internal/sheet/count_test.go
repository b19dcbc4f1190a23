package sheet

import (
	"testing"

	"pgregory.net/rapid"
)

func TestParseCount(t *testing.T) {
	for text, want := range map[string]Count{
		"0": 0, "17": 17, "400k": 400_000, "400K": 400_000, "2M": 2_000_000, "1B": 1_000_000_000,
		"1.5M": 1_500_000, "3T": 3_000_000_000_000, "1_000": 1000, "0.1k": 100, "auto": Auto,
		"9223372036854775807": 1<<63 - 1,
	} {
		if got, err := ParseCount(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "-1", "-1k", "+5", "1e6", "1.5", "1m", "1 k", "1.2.3k", "0x10", "9e9T", "10000000T", "many", "NaN", "9223372036854775808"} {
		if got, err := ParseCount(text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}

func TestCountReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Count(rapid.Int64Range(-1, 1<<63-1).Draw(t, "count"))
		if got, err := ParseCount(c.String()); err != nil || got != c {
			t.Fatalf("%d is written %q and read %d, %v", int64(c), c, got, err)
		}
	})
}

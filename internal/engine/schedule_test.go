package engine

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
)

func testSchedule(shape string) Schedule {
	return Schedule{PeakRate: 1, FinalRate: 0.1, WarmupTokens: 100, DecayFromTokens: 500, TotalTokens: 900, Shape: shape}
}

func TestScheduleRate(t *testing.T) {
	for _, c := range []struct {
		shape  string
		tokens int64
		want   float64
	}{
		{WSD, 0, 0}, {WSD, 25, 0.25}, {WSD, 100, 1}, {WSD, 300, 1}, {WSD, 500, 1},
		{WSD, 600, 0.1 + 0.9*(1-0.5)}, {WSD, 725, 0.1 + 0.9*(1-0.75)}, {WSD, 900, 0.1}, {WSD, 1e9, 0.1},
		{Cosine, 50, 0.5}, {Cosine, 100, 1}, {Cosine, 300, 0.1 + 0.9*(1+math.Sqrt2/2)/2},
		{Cosine, 500, 0.55}, {Cosine, 900, 0.1}, {Cosine, 1e9, 0.1},
	} {
		if got := testSchedule(c.shape).Rate(c.tokens); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s at %d tokens: %v, want %v", c.shape, c.tokens, got, c.want)
		}
	}
}

// TestScheduleEdges has schedules of one part only.
func TestScheduleEdges(t *testing.T) {
	none := Schedule{PeakRate: 1, TotalTokens: 10, DecayFromTokens: 10, Shape: WSD}
	if a, b, c := none.Rate(1), none.Rate(9), none.Rate(10); a != 1 || b != 1 || c != 0 {
		t.Errorf("without warm-up and decay: %v, %v, %v", a, b, c)
	}
	warm := Schedule{PeakRate: 1, FinalRate: 1, WarmupTokens: 10, DecayFromTokens: 10, TotalTokens: 10, Shape: WSD}
	if a, b := warm.Rate(5), warm.Rate(10); a != 0.5 || b != 1 {
		t.Errorf("warm-up only: %v, %v", a, b)
	}
}

// TestScheduleRisesThenFalls is case B14 as a property: the rate is a function of
// tokens alone, within its bounds, rising and then falling.
func TestScheduleRisesThenFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{PeakRate: 1e-3, Shape: rapid.SampledFrom([]string{WSD, Cosine}).Draw(t, "shape")}
		s.FinalRate = s.PeakRate * rapid.Float64Range(0, 1).Draw(t, "final")
		s.TotalTokens = rapid.Int64Range(1, 1e12).Draw(t, "total")
		s.DecayFromTokens = rapid.Int64Range(0, s.TotalTokens).Draw(t, "decay")
		s.WarmupTokens = rapid.Int64Range(0, s.DecayFromTokens).Draw(t, "warm-up")
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		a := rapid.Int64Range(0, 2*s.TotalTokens).Draw(t, "a")
		b := rapid.Int64Range(a, 2*s.TotalTokens).Draw(t, "b")
		low, high := s.Rate(a), s.Rate(b)
		if low != s.Rate(a) || low < 0 || low > s.PeakRate {
			t.Fatalf("rate at %d is %v", a, low)
		}
		if b < s.WarmupTokens && low > high+1e-18 || a >= s.WarmupTokens && high > low+1e-18 {
			t.Fatalf("rates at %d and %d are %v and %v", a, b, low, high)
		}
	})
}

func TestScheduleValidate(t *testing.T) {
	for field, change := range map[string]func(s *Schedule){
		"shape":             func(s *Schedule) { s.Shape = "step" },
		"peak_rate":         func(s *Schedule) { s.PeakRate = math.NaN() },
		"final_rate":        func(s *Schedule) { s.FinalRate = 2 },
		"tokens":            func(s *Schedule) { s.TotalTokens = 0 },
		"warmup_tokens":     func(s *Schedule) { s.WarmupTokens = 1000 },
		"decay_from_tokens": func(s *Schedule) { s.DecayFromTokens = 50 },
	} {
		s := testSchedule(WSD)
		change(&s)
		var input *fault.Input
		if err := s.Validate(); !errors.As(err, &input) || input.Where != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

package engine

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mistura-project/mistura/internal/fault"
)

// The shapes of a schedule.
const (
	WSD    = "wsd"    // warm-up, stable, decay
	Cosine = "cosine" // warm-up, half a cosine
)

// Schedule is the learning rate as a pure function of tokens. It knows nothing
// of steps, islands or time (rule D4).
type Schedule struct {
	PeakRate        float64 // after warm-up
	FinalRate       float64 // from TotalTokens on
	WarmupTokens    int64   // the rate rises linearly from 0 over these; 0: none
	DecayFromTokens int64   // WSD: the rate falls from here; Cosine ignores it
	TotalTokens     int64   // end of the schedule
	Shape           string  // WSD or Cosine
}

// Validate gives nil or a *fault.Input that names the first bad field as it is
// spelled in a run file.
func (s Schedule) Validate() error {
	bad := func(field, value, problem, next string) error {
		return &fault.Input{Where: field, Value: value, Problem: problem, Next: next}
	}
	tokens := func(n int64) string { return strconv.FormatInt(n, 10) }
	switch {
	case s.Shape != WSD && s.Shape != Cosine:
		return bad("shape", s.Shape, "is not a shape of schedule", "choose "+WSD+" or "+Cosine)
	case !(s.PeakRate > 0) || math.IsInf(s.PeakRate, 0):
		return bad("peak_rate", fmt.Sprint(s.PeakRate), "is not a learning rate", "use a number above 0 such as 0.001")
	case !(s.FinalRate >= 0 && s.FinalRate <= s.PeakRate):
		return bad("final_rate", fmt.Sprint(s.FinalRate), "is not between 0 and peak_rate",
			fmt.Sprintf("use 0 to %v", s.PeakRate))
	case s.TotalTokens < 1:
		return bad("tokens", tokens(s.TotalTokens), "is too few", "train at least one token")
	case s.WarmupTokens < 0 || s.WarmupTokens > s.TotalTokens:
		return bad("warmup_tokens", tokens(s.WarmupTokens), "does not fit in the run",
			"use 0 to "+tokens(s.TotalTokens))
	case s.Shape == WSD && (s.DecayFromTokens < s.WarmupTokens || s.DecayFromTokens > s.TotalTokens):
		return bad("decay_from_tokens", tokens(s.DecayFromTokens), "is not between the end of the warm-up and that of the run",
			fmt.Sprintf("use %d to %d", s.WarmupTokens, s.TotalTokens))
	}
	return nil
}

// Rate is the learning rate of a step, tokens being the count when the step will
// be done: its own tokens included, so that the first step of a warm-up is not
// lost on rate 0.
//
// WSD falls as 1-√x over the decay (Hägele et al., arXiv 2405.18392).
func (s Schedule) Rate(tokens int64) float64 {
	if tokens < s.WarmupTokens {
		return s.PeakRate * float64(max(tokens, 0)) / float64(s.WarmupTokens)
	}
	if tokens >= s.TotalTokens {
		return s.FinalRate
	}
	from := s.DecayFromTokens
	if s.Shape == Cosine {
		from = s.WarmupTokens
	}
	if tokens <= from {
		return s.PeakRate
	}
	x := float64(tokens-from) / float64(s.TotalTokens-from)
	left := 1 - math.Sqrt(x)
	if s.Shape == Cosine {
		left = (1 + math.Cos(math.Pi*x)) / 2
	}
	return s.FinalRate + float64((s.PeakRate-s.FinalRate)*left)
}

package ledger

import (
	"fmt"
	"slices"
)

// Slow workers are found by what a token takes them alone, without waiting for others,
// and against their own kind only: a kind that is slower than another is no fault of
// anybody (leases are handed out by speed), and wall time would be equal for all where
// they wait for each other. With data of their own, steps may be of any size: whoever
// makes larger ones is not slow. The median leaves single long steps out; those are stalls.

// Bounds of the judgement.
const (
	paceSteps     = 31  // last steps that count
	paceLeast     = 5   // steps that must be there before a worker is judged
	stragglerFrom = 1.3 // times the median of its kind
	stallFrom     = 3   // times the worker's own median, of what a token takes in one step
	stallLeast    = 0.5 // seconds; what is shorter is the scheduler's
)

// Pace is what one worker's last steps took it.
type Pace struct {
	Name  string
	Kind  string   // only workers of one kind are compared
	Steps []Worked // oldest first
}

// Worked is one step.
type Worked struct {
	Busy   float64 // seconds, without waiting for others
	Tokens float64 // above 0
}

func busyOf(s Worked) float64   { return s.Busy }
func perToken(s Worked) float64 { return s.Busy / s.Tokens }

// Judgement is what follows for one worker.
type Judgement struct {
	Name      string
	Busy      Value // median seconds of a step
	Kind      Value // what its kind takes for as many tokens, by the median of their medians; unknown: nobody else is of it
	Ratio     Value // Busy over Kind
	Straggler bool
	Stalls    int   // single long steps
	Longest   Value // of them, seconds
}

// Judge compares workers with their own kind.
func Judge(paces []Pace) []Judgement {
	kinds := map[string][]float64{} // seconds a token
	out := make([]Judgement, len(paces))
	for i, p := range paces {
		out[i] = Judgement{Name: p.Name}
		if len(p.Steps) < paceLeast {
			continue
		}
		own := medianOf(p.Steps, perToken)
		out[i].Busy = Known(medianOf(p.Steps, busyOf))
		kinds[p.Kind] = append(kinds[p.Kind], own)
		longest := 0.0
		for _, s := range p.Steps {
			if s.Busy > stallLeast && perToken(s) > stallFrom*own {
				out[i].Stalls++
				longest = max(longest, s.Busy)
			}
		}
		if out[i].Stalls > 0 {
			out[i].Longest = Known(longest)
		}
	}
	for i, p := range paces {
		busy, ok := out[i].Busy.Get()
		if all := kinds[p.Kind]; ok && len(all) > 1 {
			ratio := medianOf(p.Steps, perToken) / lowerMedian(all)
			out[i].Kind, out[i].Ratio = Known(busy/ratio), Known(ratio)
			out[i].Straggler = ratio > stragglerFrom
		}
	}
	return out
}

// Why says what is wrong with a worker's pace, or nothing.
func (j Judgement) Why() string {
	ratio, _ := j.Ratio.Get()
	busy, _ := j.Busy.Get()
	kind, _ := j.Kind.Get()
	why := ""
	if j.Straggler {
		why = fmt.Sprintf("slow: a step takes it %.3g s, %.2f times the %.3g s of its kind for as many tokens", busy, ratio, kind)
	}
	if longest, ok := j.Longest.Get(); ok {
		if why != "" {
			why += "; "
		}
		why += fmt.Sprintf("stalled %d times, at most %.3g s in one step", j.Stalls, longest)
	}
	return why
}

// lowerMedian is the middle, the lower one of two: with two workers of a kind the faster
// one is the measure.
func lowerMedian(x []float64) float64 {
	sorted := slices.Sorted(slices.Values(x))
	return sorted[(len(sorted)-1)/2]
}

func medianOf(steps []Worked, what func(Worked) float64) float64 {
	values := make([]float64, len(steps))
	for i, s := range steps {
		values[i] = what(s)
	}
	return lowerMedian(values)
}

package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/rng"
)

// ErrNotFinite is what Generate gives when the model's logits hold a NaN or an
// infinity.
var ErrNotFinite = errors.New("the model's output is not finite")

// SampleOptions say how text is drawn.
type SampleOptions struct {
	Tokens      int     // how many to write, at least 0
	Temperature float64 // logits are divided by it; 0: always the likeliest token, the lowest among equals
	TopP        float64 // draw from the likeliest tokens that reach this probability together, in (0, 1]; 1: from all
	Seed        uint64  // of the draws
	Context     int     // tokens that a token is drawn from at most, usually those of a training sequence: what a model does beyond is not trained; when they are full the older half is forgotten; 0: all
}

// maxSample keeps a count of tokens away from where it overflows.
const maxSample = 1_000_000_000_000

// Validate gives nil or a *fault.Input that names the first bad field.
func (o SampleOptions) Validate() error {
	switch {
	case o.Tokens < 0:
		return &fault.Input{Where: "tokens", Value: fmt.Sprint(o.Tokens), Problem: "is negative", Next: "use at least 0"}
	case o.Tokens > maxSample:
		return &fault.Input{Where: "tokens", Value: fmt.Sprint(o.Tokens), Problem: "is too large", Next: fmt.Sprintf("use up to %d", maxSample)}
	case o.Context < 0:
		return &fault.Input{Where: "context", Value: fmt.Sprint(o.Context), Problem: "is negative", Next: "use at least 0"}
	case !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0):
		return &fault.Input{Where: "temperature", Value: fmt.Sprint(o.Temperature), Problem: "is out of range",
			Next: "use 0 for the likeliest token, about 1 for the model's own distribution"}
	case !(o.TopP > 0 && o.TopP <= 1):
		return &fault.Input{Where: "top_p", Value: fmt.Sprint(o.TopP), Problem: "is out of range",
			Next: "use a number above 0 and at most 1"}
	}
	return nil
}

// sampler draws tokens from logits.
type sampler struct {
	o     SampleOptions
	probs []float64
	order []int32
}

func newSampler(o SampleOptions, vocab int) *sampler {
	return &sampler{o: o, probs: make([]float64, vocab), order: make([]int32, vocab)}
}

// draw gives the token at a position of the text. The draw depends on seed and
// position alone.
func (s *sampler) draw(logits []float32, position int) (int32, error) {
	best := int32(0)
	for i, x := range logits {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return 0, ErrNotFinite
		}
		if x > logits[best] {
			best = int32(i)
		}
	}
	if s.o.Temperature == 0 {
		return best, nil
	}
	for i, x := range logits {
		s.probs[i] = math.Exp((float64(x) - float64(logits[best])) / s.o.Temperature)
		s.order[i] = int32(i)
	}
	// Likeliest first, the lowest number first among equals.
	slices.SortStableFunc(s.order, func(a, b int32) int {
		switch {
		case s.probs[a] > s.probs[b]:
			return -1
		case s.probs[a] < s.probs[b]:
			return 1
		}
		return 0
	})
	return s.pick(rng.New(s.o.Seed, rng.Sampling, uint64(position)).Float64()), nil
}

// pick gives the token where the running sum over the kept tokens passes the
// fraction u of their total.
func (s *sampler) pick(u float64) int32 {
	total := 0.0
	for _, p := range s.probs {
		total += p
	}
	kept, mass := 0, 0.0
	for kept < len(s.order) && (kept == 0 || mass < s.o.TopP*total) {
		mass += s.probs[s.order[kept]]
		kept++
	}
	sum := 0.0
	for _, t := range s.order[:kept] {
		sum += s.probs[t]
		if sum > u*mass {
			return t
		}
	}
	return s.order[kept-1]
}

package published

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

// Counting says which work a source's rates are of. Two things differ from source to
// source: whether a query meets the keys that a causal mask hides, and whether work
// that the backward pass repeats counts (hardware rates) or not (model rates). The
// second is told by the metric.
type Counting string

// Ways of counting attention.
const (
	AllPairs Counting = "all pairs"
	Causal   Counting = "causal"
)

// Step is a measured step.
type Step struct {
	Seconds float64
	Formula string
	// Unsure is by how much the time may be off, as a fraction, because the source does
	// not say how it counts work.
	Unsure float64
}

// mostUnsure is how far readings of a rate may lie apart before it says nothing.
const mostUnsure = 0.05

// Step is how long a step took by what was measured. Counting may be empty: the
// source does not say. The error is a *fault.Input: what was measured is no step, or
// cannot be turned into one.
func (c Case) Step(counting Counting) (Step, error) {
	v := c.Run.Measured.Value
	tokens := float64(c.Batch) * float64(c.Sequence)
	switch metric, unit := c.Run.Metric, c.Run.Unit; {
	case metric == "step_time" && unit == "s":
		return Step{Seconds: v, Formula: "measured"}, nil
	case metric == "throughput" && unit == "tokens/s/chip":
		return Step{Seconds: tokens / (v * float64(c.Chips)),
			Formula: fmt.Sprintf("%d sequences × %d tokens / (%g tokens/s × %d chips)", c.Batch, c.Sequence, v, c.Chips)}, nil
	case metric == "model_flops_rate" && unit == "TFLOPs/chip":
		return c.ofRate(v, false, counting)
	case metric == "hardware_flops_rate" && unit == "TFLOPs/chip":
		return c.ofRate(v, true, counting)
	case metric == "mfu" && unit == "%":
		peak, err := c.peak()
		if err != nil {
			return Step{}, err
		}
		return c.ofRate(v/100*peak, false, counting)
	case metric == "step_time", metric == "throughput", metric == "model_flops_rate", metric == "hardware_flops_rate", metric == "mfu":
		return Step{}, &fault.Input{Where: "unit", Value: unit, Problem: "is not that of " + metric, Next: "use s, tokens/s/chip, TFLOPs/chip or %"}
	}
	return Step{}, &fault.Input{Where: "measured_metric", Value: c.Run.Metric, Problem: "is not of a step", Next: "give step_time, throughput, model_flops_rate, hardware_flops_rate or mfu"}
}

// peak is what a utilisation is of. Of narrow formats nobody says whether it is
// their own peak or that of 16 bits.
func (c Case) peak() (float64, error) {
	refuse := func(problem string) error {
		return &fault.Input{Where: "measured_metric", Value: c.Run.Metric, Problem: problem, Next: "give the step time or tokens/s"}
	}
	if c.Format != "bf16" && c.Format != "fp16" {
		return 0, refuse("is a share of a peak that is not said to be that of " + c.Format)
	}
	field, ok := chip.Peak(c.Format)
	if !ok {
		return 0, refuse("is a share of a peak of " + c.Format + ", which no chip has here")
	}
	peak, ok := c.Chip.Of(field).Exact()
	if !ok {
		return 0, refuse("is a share of the peak of " + c.Chip.Name + ", on which sources do not agree")
	}
	return peak, nil
}

// ofRate turns TFLOPS of a chip into the time of a step.
func (c Case) ofRate(rate float64, hardware bool, counting Counting) (Step, error) {
	again := anatomy.NoRecompute
	if hardware {
		again = c.Recompute
	}
	if again == "" {
		return Step{}, &fault.Input{Where: "recompute", Value: c.Run.Recompute, Problem: "is not known, and the rate counts repeated work", Next: "give the step time or tokens/s"}
	}
	causal, all := c.seconds(rate, again, Causal), c.seconds(rate, again, AllPairs)
	formula := fmt.Sprintf("work of %d × %d tokens, attention over %s, recomputed: %s / (%g TFLOPS × %d chips)", c.Batch, c.Sequence, counting, again, rate, c.Chips)
	switch {
	case counting == Causal:
		return Step{Seconds: causal, Formula: formula}, nil
	case counting == AllPairs:
		return Step{Seconds: all, Formula: formula}, nil
	case all/causal-1 > mostUnsure:
		return Step{}, &fault.Input{Where: "measured_metric", Value: c.Run.Metric,
			Problem: fmt.Sprintf("is of work that the source does not say how it counts; readings differ by %.0f %%", 100*(all/causal-1)), Next: "give the step time or tokens/s"}
	}
	middle := math.Sqrt(causal * all)
	return Step{Seconds: middle, Unsure: all/middle - 1, Formula: fmt.Sprintf("work of %d × %d tokens, between causal and full attention, recomputed: %s / (%g TFLOPS × %d chips)", c.Batch, c.Sequence, again, rate, c.Chips)}, nil
}

func (c Case) seconds(rate float64, again anatomy.Recompute, counting Counting) float64 {
	convention := anatomy.Convention{Sequence: c.Sequence, Full: counting == AllPairs}
	work := c.Decoder.Work(convention)
	each := work.Forward() + work.Backward() + c.Decoder.Whole().Again(again, convention)
	return each * float64(c.Batch) * float64(c.Sequence) / (rate * 1e12 * float64(c.Chips))
}

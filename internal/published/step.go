package published

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

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

// mostUnsure is how far the middle may lie from a reading of a rate before the rate
// says nothing. It lets through both ways of counting attention, or of counting repeated
// work, but not the two together.
const mostUnsure = 0.2

// Kinds of measurement.
const (
	timed    = "step_time"
	through  = "throughput"
	modelled = "model_flops_rate"
	hardware = "hardware_flops_rate"
	share    = "mfu"
	ofPeak   = "fraction_of_peak" // of either rate: the source does not say
)

// IsStep says that what was measured is a step's time, or a rate that gives it.
func (r Run) IsStep() bool {
	return slices.Contains([]string{timed, through, modelled, hardware, share, ofPeak}, r.Metric)
}

// scale is what a unit is of the one that a kind of measurement is read in: seconds,
// tokens/s a chip, TFLOPS a chip, the whole.
func (c Case) scale() (float64, bool) {
	unit := strings.NewReplacer(" ", "", "/gpu", "/chip", "/device", "/chip", "/npu", "/chip", "flop/s", "flops", "/sec", "/s").Replace(strings.ToLower(c.Run.Unit))
	chips, tokens := float64(c.Chips), float64(c.Sequence)
	units := map[string]float64{}
	switch c.Run.Metric {
	case timed:
		units = map[string]float64{"s": 1, "seconds": 1, "ms": 1e-3}
	case through:
		units = map[string]float64{"tokens/s/chip": 1, "tokens/s": 1 / chips, "samples/s": tokens / chips, "sequences/s": tokens / chips,
			"samples/s/chip": tokens, "sequences/s/chip": tokens, "tokens/chip/s": 1}
	case modelled, hardware:
		units = map[string]float64{"tflops/chip": 1, "tflops": 1, "pflops": 1e3 / chips}
	case share, ofPeak:
		units = map[string]float64{"%": 0.01, "percent": 0.01, "fraction": 1}
	}
	x, ok := units[unit]
	return x, ok
}

// Step is how long a step took by what was measured. Counting may be empty: the
// source does not say. The error is a *fault.Input: what was measured is no step, or
// cannot be turned into one.
func (c Case) Step(counting Counting) (Step, error) {
	if !c.Run.IsStep() {
		return Step{}, &fault.Input{Where: "measured_metric", Value: fault.Clip(c.Run.Metric), Problem: "is not of a step", Next: "give step_time, throughput, model_flops_rate, hardware_flops_rate or mfu"}
	}
	scale, ok := c.scale()
	if !ok {
		return Step{}, &fault.Input{Where: "unit", Value: fault.Clip(c.Run.Unit), Problem: "is not that of " + c.Run.Metric, Next: "use s, tokens/s/chip, TFLOPs/chip or %"}
	}
	v, low, high := c.Run.Measured.Value*scale, 1.0, 1.0
	switch c.Run.Metric {
	case timed:
		return Step{Seconds: v, Formula: "measured"}, nil
	case through:
		return Step{Seconds: float64(c.Batch) * float64(c.Sequence) / (v * float64(c.Chips)),
			Formula: fmt.Sprintf("%d sequences × %d tokens / (%g tokens/s × %d chips)", c.Batch, c.Sequence, v, c.Chips)}, nil
	case share, ofPeak:
		var err error
		if low, high, err = c.peak(); err != nil {
			return Step{}, err
		}
	}
	return c.ofRate(v*low, v*high, counting)
}

// peak is what a utilisation is of, or between what and what where sources disagree.
// Of narrow formats nobody says whether it is their own peak or that of 16 bits.
func (c Case) peak() (low, high float64, err error) {
	refuse := func(problem string) (float64, float64, error) {
		return 0, 0, &fault.Input{Where: "measured_metric", Value: c.Run.Metric, Problem: problem, Next: "give the step time or tokens/s"}
	}
	if c.Format != "bf16" && c.Format != "fp16" {
		return refuse("is a share of a peak that is not said to be that of " + c.Format)
	}
	field, ok := chip.Peak(c.Format)
	if !ok {
		return refuse("is a share of a peak of " + c.Format + ", which no chip has here")
	}
	low, high, ok = c.Chip.Of(field).Range()
	if !ok {
		return refuse("is a share of the peak of " + c.Chip.Name + " in " + c.Format + ", which nobody knows")
	}
	return low, high, nil
}

// again are the ways in which a rate may count work that the backward pass repeats.
func (c Case) again() []anatomy.Recompute {
	none := anatomy.NoRecompute
	switch mode := c.Recompute; {
	case c.Run.Metric == modelled || c.Run.Metric == share:
		return []anatomy.Recompute{none}
	case mode == "":
		return []anatomy.Recompute{none, anatomy.FullLayers}
	case c.Run.Metric == ofPeak && mode != none:
		return []anatomy.Recompute{none, mode}
	default:
		return []anatomy.Recompute{mode}
	}
}

// ofRate turns TFLOPS of a chip into the time of a step: the middle, where the source
// leaves several readings.
func (c Case) ofRate(low, high float64, counting Counting) (Step, error) {
	ways := []Counting{counting}
	if counting == "" {
		ways = []Counting{Causal, AllPairs}
	}
	least, most := math.Inf(1), 0.0
	for _, mode := range c.again() {
		for _, way := range ways {
			least, most = min(least, c.seconds(high, mode, way)), max(most, c.seconds(low, mode, way))
		}
	}
	middle := math.Sqrt(least * most)
	if most/middle-1 > mostUnsure {
		return Step{}, &fault.Input{Where: "measured_metric", Value: c.Run.Metric,
			Problem: fmt.Sprintf("is of work that the source does not say how it counts; readings differ by %.0f %%", 100*(most/least-1)), Next: "give the step time or tokens/s"}
	}
	said, rate := cmp.Or(string(counting), "causal or all pairs"), anatomy.Number(low)
	if high > low {
		rate += " to " + anatomy.Number(high)
	}
	return Step{Seconds: middle, Unsure: most/middle - 1,
		Formula: fmt.Sprintf("work of %d × %d tokens, attention over %s, recomputed: %v / (%s TFLOPS × %d chips)", c.Batch, c.Sequence, said, c.again(), rate, c.Chips)}, nil
}

func (c Case) seconds(rate float64, again anatomy.Recompute, counting Counting) float64 {
	convention := anatomy.Convention{Sequence: c.Sequence, Full: counting == AllPairs}
	work := c.Decoder.Work(convention)
	each := work.Forward() + work.Backward() + c.Decoder.Whole().Again(again, convention)
	return each * float64(c.Batch) * float64(c.Sequence) / (rate * 1e12 * float64(c.Chips))
}

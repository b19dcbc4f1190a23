package fit

import (
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Peak is a published peak of memory beside what tensors are predicted to take, in bytes.
type Peak struct {
	ID, Source          string
	Measured, Allocated float64
}

// Peaks are those of sources for calibration.
func Peaks(runs []published.Run, chips chip.Catalogue, k plan.Constants) []Peak {
	split := published.BuiltinSplit(chips)
	var peaks []Peak
	for _, r := range runs {
		c, err := r.Case(chips)
		if err != nil || !r.PeakMemoryGiB.Known || split.Of(r.Source).Side != published.Calibration {
			continue
		}
		task, h, l, err := OfCase(c)
		if err != nil {
			continue
		}
		m, err := plan.Prepare(task, h, k)
		if err != nil {
			continue
		}
		s := m.Step(l)
		peaks = append(peaks, Peak{ID: r.ID, Source: r.Source, Measured: r.PeakMemoryGiB.Value * (1 << 30), Allocated: s.Bytes() - s.Memory[plan.Framework]})
	}
	return peaks
}

// Memory fits what a rank takes beside its tensors: so many bytes, and so much of the
// tensors'. Each source counts alike. The grid is coarse: digits that the runs do not tell
// would be none.
func Memory(peaks []Peak) (context, gaps float64) {
	best := math.Inf(1)
	for c := 0.0; c <= 6e9; c += 5e8 {
		for g := range 11 {
			if e := unlike(peaks, c, float64(2*g)/100); e < best {
				best, context, gaps = e, c, float64(2*g)/100
			}
		}
	}
	return context, gaps
}

// unlike is the mean over sources of the mean relative error.
func unlike(peaks []Peak, context, gaps float64) float64 {
	var sources []string
	var sums, counts []float64
	for _, p := range peaks {
		i := slices.Index(sources, p.Source)
		if i < 0 {
			i, sources, sums, counts = len(sources), append(sources, p.Source), append(sums, 0), append(counts, 0)
		}
		sums[i] += math.Abs(p.Error(context, gaps))
		counts[i]++
	}
	n := 0.0
	for i := range sums {
		n += sums[i] / counts[i]
	}
	return n / float64(len(sums))
}

// Error is predicted over measured, less 1.
func (p Peak) Error(context, gaps float64) float64 {
	return (p.Allocated*(1+gaps)+context)/p.Measured - 1
}

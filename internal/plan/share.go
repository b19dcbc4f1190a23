package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
)

// ShareOf is the part of the peak that products were measured to reach on a chip in a
// format, for Hardware.Share. That is the share of large products, since the model itself
// says how much sizes slow smaller ones down: each shape of the newest measurements is
// taken for as much more, of those that are slowed down slightly; median, lowest and highest
// of them. A table without such shapes gives that of its newest training rows, whatever
// their sizes were. Without any the share is not known: other chips and formats say nothing of it.
func ShareOf(t chip.Table, name, format string) (Range, bool) {
	if r, ok := shareOfShapes(t, name, format); ok {
		return r, true
	}
	rows := newest(t.Of(chip.Key{Chip: name, Operation: chip.Product, Format: format, Shape: chip.TrainingShape}))
	var mids, ends []float64
	for _, m := range rows {
		mid, _ := m.Share()
		mids, ends = append(mids, mid), append(ends, mid)
		peak, _ := m.Peak.Exact()
		if low, high, ok := m.Bounds(); ok {
			ends = append(ends, low/peak, high/peak)
		}
	}
	return rangeOf(mids, ends)
}

const (
	slightly    = 1.5 // times the time: above, the share is more the model's than the measurement's
	leastShapes = 3
)

// shareOfShapes is the share of large products by those of known shapes.
func shareOfShapes(t chip.Table, name, format string) (Range, bool) {
	k := BuiltinConstants()
	tokens := k.of("tokens")
	width := k.of("width")
	var rows []chip.Measurement
	for _, m := range t.OfChip(name) {
		if m.Operation == chip.Product && m.Format == format && m.Extents() != nil {
			rows = append(rows, m)
		}
	}
	var shares []float64
	for _, m := range newest(rows) {
		x := m.Extents()
		slower := (1 + tokens.Value/float64(x[0])) * (1 + width.Value/float64(x[1])) * (1 + width.Value/float64(x[2]))
		if share, _ := m.Share(); slower <= slightly {
			shares = append(shares, min(1, share*slower))
		}
	}
	if len(shares) < leastShapes {
		return Range{}, false
	}
	return rangeOf(shares, shares)
}

// rangeOf has the median of the one, and of the other the ends.
func rangeOf(mids, ends []float64) (Range, bool) {
	if len(mids) == 0 {
		return Range{}, false
	}
	return Range{Low: slices.Min(ends), Mid: Quantile(slices.Sorted(slices.Values(mids)), 0.5), High: slices.Max(ends)}, true
}

// AssumedShareOf takes the share from the best product that was measured, on the
// assumption, which it states, that training's products reach the part of it that they
// reach on the chips of the table of which both are known.
func AssumedShareOf(t chip.Table, name, format string) (share Range, assumed string, ok bool) {
	best, ok := bestOf(t, name, format)
	if !ok {
		return Range{}, "", false
	}
	var mids, ends []float64
	var chips []string
	for _, m := range t.Rows {
		if m.Operation != chip.Product || m.Shape != chip.TrainingShape {
			continue
		}
		training, known := ShareOf(t, m.Chip, m.Format)
		top, both := bestOf(t, m.Chip, m.Format)
		if label := m.Chip + " " + m.Format; known && both && !slices.Contains(chips, label) {
			chips = append(chips, label)
			mids, ends = append(mids, training.Mid/top), append(ends, training.Low/top, min(1, training.High/top))
		}
	}
	r, ok := rangeOf(mids, ends)
	if !ok {
		return Range{}, "", false
	}
	assumed = fmt.Sprintf("products of training reach %.0f %% (%.0f–%.0f) of the best product, as on %s", 100*r.Mid, 100*r.Low, 100*r.High, strings.Join(chips, ", "))
	return Range{Low: best * r.Low, Mid: best * r.Mid, High: best * r.High}, assumed, true
}

// bestOf is the part of the peak that the best product reached.
func bestOf(t chip.Table, name, format string) (float64, bool) {
	most := 0.0
	for _, m := range newest(t.Of(chip.Key{Chip: name, Operation: chip.Product, Format: format, Shape: chip.BestShape})) {
		share, _ := m.Share()
		most = max(most, share)
	}
	return most, most > 0
}

// newest are those of the measurements with a share of a peak that are of the last
// day: software moves what a chip reaches.
func newest(all []chip.Measurement) []chip.Measurement {
	all = slices.DeleteFunc(all, func(m chip.Measurement) bool { _, ok := m.Share(); return !ok })
	last := ""
	for _, m := range all {
		last = max(last, m.Date)
	}
	return slices.DeleteFunc(all, func(m chip.Measurement) bool { return m.Date != last })
}

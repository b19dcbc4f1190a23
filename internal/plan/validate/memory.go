package validate

import (
	"strings"

	"github.com/mistura-project/mistura/internal/plan"
)

// Bytes says which bytes a source counts.
type Bytes string

// Kinds of bytes.
const (
	Allocated   Bytes = "allocated"   // by tensors, at the peak
	Reserved    Bytes = "reserved"    // by the allocator, gaps included
	Unsaid      Bytes = "not said"    // one of those, or all that the device has in use
	Activations Bytes = "activations" // kept for the backward pass
)

const gib = 1 << 30

// Memory is a published peak beside its prediction, in GiB of a chip.
type Memory struct {
	ID         string `json:"id"`
	Chip       string `json:"chip"`
	Bytes      Bytes  `json:"bytes"`
	Measured   Number `json:"measured_gib"`
	Predicted  Number `json:"predicted_gib"`
	Error      Number `json:"error"`
	Calibrates bool   `json:"used_for_calibration"`
}

// MemoryGroup sums up one kind.
type MemoryGroup struct {
	Rows int `json:"rows"`
	Stats
}

// Memories are all of them.
type Memories struct {
	Bytes map[Bytes]MemoryGroup `json:"by_bytes"`
	Rows  []Memory              `json:"rows"`
}

// bytesOf tells from the row what was counted. torchtitan prints what its allocator
// has reserved.
func bytesOf(r Row) Bytes {
	notes, source := strings.ToLower(r.run.Notes), strings.ToLower(r.Source)
	switch {
	case r.run.Metric == "activation_memory":
		return Activations
	case strings.Contains(notes, "reserved") || strings.Contains(source, "torchtitan"):
		return Reserved
	case strings.Contains(notes, "alloc"):
		return Allocated
	}
	return Unsaid
}

// peak is what was measured, if anything was.
func peak(r Row) Number {
	switch {
	case r.run.Metric == "activation_memory" && r.run.Measured.Known && r.run.Unit == "GiB/chip":
		return Number(r.run.Measured.Value)
	case r.run.PeakMemoryGiB.Known:
		return Number(r.run.PeakMemoryGiB.Value)
	}
	return Unknown()
}

// predictedPeak is of the step what the source counts.
func predictedPeak(s plan.Step, kind Bytes) Number {
	switch kind {
	case Activations:
		return Number(s.Memory[plan.Activations] / gib)
	case Allocated:
		return Number((s.Bytes() - s.Memory[plan.Framework]) / gib)
	default:
		return Number(s.Bytes() / gib)
	}
}

func memoriesOf(rows []Row) Memories {
	all := Memories{Bytes: map[Bytes]MemoryGroup{}, Rows: []Memory{}}
	errors := map[Bytes][]float64{}
	for _, r := range rows {
		measured := peak(r)
		if !measured.Known() || !r.told {
			continue
		}
		m := Memory{ID: r.ID, Chip: r.Chip, Bytes: bytesOf(r), Measured: measured, Calibrates: r.Calibrates}
		m.Predicted = predictedPeak(r.step, m.Bytes)
		if m.Error = m.Predicted/m.Measured - 1; !m.Error.Known() {
			continue
		}
		all.Rows = append(all.Rows, m)
		errors[m.Bytes] = append(errors[m.Bytes], float64(m.Error))
	}
	for kind, e := range errors {
		all.Bytes[kind] = MemoryGroup{Rows: len(e), Stats: statsOf(e)}
	}
	return all
}

package plan

import "github.com/mistura-project/mistura/internal/anatomy"

// What plans are chosen among is what people run: predictions of other layouts rest on
// no published run.

// Headroom is the part of a chip's memory that a plan leaves free, about what predicted
// peaks of processes are off by (docs/planner.md).
const Headroom = 0.05

// Room is the memory that a plan may fill, in bytes.
func (h Hardware) Room() float64 { return (1 - Headroom) * h.Memory }

// MostVPP is the most virtual stages of a rank: of the published runs that have some,
// three have more.
const MostVPP = 12

// VirtualStages are the numbers of them that cut layers into stages of one size.
func VirtualStages(depth, pp int) []int {
	all := []int{1}
	for v := 2; pp > 1 && v <= MostVPP && pp*v <= depth; v++ {
		if depth%(pp*v) == 0 {
			all = append(all, v)
		}
	}
	return all
}

// Thrift are the ways to save memory with so many stages, what costs no time first. With a
// pipeline Megatron and its kin share moments and masters only (ZeRO 1): stage 2 would send
// gradients, and 3 gather weights, for each micro-batch.
func Thrift(pp int) []Layout {
	zeros := []int{1, 0}
	if pp == 1 {
		zeros = []int{1, 2, 0, 3}
	}
	var all []Layout
	for _, again := range anatomy.Recomputes() {
		for _, zero := range zeros {
			all = append(all, Layout{ZeRO: zero, Recompute: again})
		}
	}
	return all
}

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

// EndsShort are the layers of each stage where one or two are missing for even ones:
// embedding and head count for a layer, as with Megatron's flags
// (account_for_embedding_in_pipeline_split, …_loss_…) and in Llama 3 405B (arXiv 2407.21783,
// section 3.3.2). Nil: stages are even, or more are missing.
func EndsShort(depth, pp int) []int {
	missing := missingFor(depth, pp)
	if missing < 1 || missing > 2 || pp > depth {
		return nil
	}
	all := make([]int, pp)
	for i := range all {
		all[i] = (depth + missing) / pp
	}
	all[pp-1]--
	if missing == 2 {
		all[0]--
	}
	if all[pp-1] < 1 {
		return nil
	}
	return all
}

func missingFor(depth, pp int) int { return (pp - depth%pp) % pp }

// VirtualStages are the numbers of them that cut layers into stages of one size, embedding
// and head counted as in [EndsShort].
func VirtualStages(depth, pp int) []int {
	if EndsShort(depth, pp) != nil {
		depth += missingFor(depth, pp)
	}
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

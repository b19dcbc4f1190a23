package fit

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// OfCase puts a published run as a question to the cost model. What the source leaves
// out is taken as the stack does it, and told.
func OfCase(c published.Case) (plan.Task, plan.Hardware, plan.Layout, error) {
	h, err := hardware(c)
	if err != nil {
		return plan.Task{}, plan.Hardware{}, plan.Layout{}, err
	}
	stack := stackOf(c)
	t := plan.Task{Model: c.Decoder, Sequence: c.Sequence, Batch: c.Batch, Format: c.Format, Stack: stack, Unfused: stack == plan.Classic}
	l := plan.Layout{Layout: c.Layout, DP: c.DP, CP: c.CP, VPP: c.VPP.Or(1), ZeRO: c.ZeRO.Or(1), Recompute: c.Recompute}
	if l.Recompute == "" {
		l.Recompute = recomputeOf(c)
	}
	l.MicroBatch = microBatch(c, l, stack)
	if l.PP > 1 && c.Decoder.Depth()%(l.PP*l.VPP) != 0 {
		l.Stages = endsShort(c.Decoder.Depth(), l.PP, l.VPP)
	}
	if stack == plan.Megatron && strings.HasPrefix(c.Run.Model, "deepseek-v3") && !c.Run.MTP.Known {
		t.Model.MTP = 1 // Megatron-Bridge's recipe has it; the rates that its tables print count it
	}
	t.Months = monthsBefore(c.Run.Software)
	return t, h, l, nil
}

// hardware is the chip as the run had it: with the network that its source states.
func hardware(c published.Case) (plan.Hardware, error) {
	h, err := plan.HardwareOf(c.Chip, c.Among.Chips()...)
	if err != nil {
		return h, err
	}
	if n := c.Run.NodeNICGbits; n.Known {
		h.NIC = n.Value * 1e9 / 8 / float64(h.NodeChips)
	}
	return h, nil
}

// stackOf tells the training software from where a run was published.
func stackOf(c published.Case) plan.Stack {
	from := strings.ToLower(c.Run.Source + " " + c.Run.Software)
	for _, s := range []struct {
		word  string
		stack plan.Stack
	}{
		{"mosaicml", plan.FSDP}, {"llm-foundry", plan.FSDP}, {"torchtitan", plan.Titan}, {"sailor", plan.Sailor}, {"vtrain", plan.Classic},
		{"mindspeed", plan.MindSpeed}, {"primus", plan.Primus}, {"simumax", plan.Plain}, {"nemo", plan.Megatron}, {"megatron-bridge", plan.Megatron},
	} {
		if strings.Contains(from, s.word) {
			return s.stack
		}
	}
	switch {
	case c.Run.Year.Or(2024) <= 2022:
		return plan.Classic
	case c.Run.ZeRO == "fsdp" || c.ZeRO == published.Count{Value: 3, Known: true}:
		return plan.FSDP
	}
	return plan.Hardware{Arch: c.Chip.Of(chip.Arch).Text()}.Usual()
}

// recomputeOf is what software does where a run does not say.
func recomputeOf(c published.Case) anatomy.Recompute {
	switch {
	case strings.Contains(c.Run.Recompute, "full"), strings.HasPrefix(c.Run.Recompute, "block"):
		return anatomy.FullLayers
	case strings.Contains(c.Run.Recompute, "selective"):
		return anatomy.Selective
	}
	return anatomy.NoRecompute
}

// microBatch is the one stated, or what the stated accumulation leaves; with torchtitan's
// pipelines, of which it makes as many micro-batches as there are stages (its pipeline_llama), that; else one sequence.
func microBatch(c published.Case, l plan.Layout, stack plan.Stack) int {
	if c.MicroBatch.Known {
		return c.MicroBatch.Value
	}
	if stack == plan.Titan && l.PP > 1 {
		return max(1, c.Batch/(l.DP*l.PP))
	}
	if l.PP == 1 && c.Run.Accumulation.Known && c.Run.Accumulation.Value > 0 {
		return max(1, c.Batch/(l.DP*c.Run.Accumulation.Value))
	}
	return 1
}

// endsShort deals layers to stages where virtual stages do not divide them: up to two are
// missing at the ends (plan.EndsShort), more than that at the end, as in Megatron's
// layouts of DeepSeek-V3.
func endsShort(depth, stages, chunks int) []int {
	each := (depth + stages*chunks - 1) / (stages * chunks) * chunks
	missing := each*stages - depth
	if missing <= 2 {
		return plan.EndsShort(depth, stages)
	}
	out := slices.Repeat([]int{each}, stages)
	for at := stages - 1; missing > 0; at-- {
		n := min(missing, out[at]-1)
		out[at] -= n
		missing -= n
	}
	return out
}

// newest is the month of the newest software that constants are fitted to, in months.
const newest = 26*12 + 4

// monthsBefore is the age of software whose version is a year and a month.
func monthsBefore(software string) float64 {
	i := strings.LastIndexByte(software, ' ')
	parts := strings.Split(software[i+1:], ".")
	if len(parts) < 2 {
		return 0
	}
	year, err := strconv.Atoi(parts[0])
	month, err2 := strconv.Atoi(parts[1])
	if err != nil || err2 != nil || year < 20 || year > 60 || month < 1 || month > 12 {
		return 0
	}
	return max(0, float64(newest-12*year-month))
}

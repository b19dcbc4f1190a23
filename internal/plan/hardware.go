package plan

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

// Hardware is the chips of an island and what links them, as numbers. Rates are of
// one chip, links of one direction.
type Hardware struct {
	Chip      string
	Arch      string             // as the catalogue has it; chips of one architecture share constants
	Peak      map[string]float64 // FLOP/s by format, dense
	Memory    float64            // bytes
	Bandwidth float64            // bytes/s of device memory
	Link      float64            // bytes/s to the chips of its group together
	Pair      float64            // bytes/s between two chips of a mesh; 0: a pair has Link
	Group     int                // chips that Link joins
	NodeChips int                // chips of a host
	NIC       float64            // bytes/s beyond the group
	Host      float64            // bytes/s between chip and host memory; 0: not known
	MTBF      float64            // seconds of one chip between interruptions; 0: not known
	// Share is what part of the peak products reach, where the user says so.
	Share *Range
	// Assumed says in words what is not a plain figure of the catalogue.
	Assumed []string
}

// Range is a number with its bounds.
type Range struct{ Low, Mid, High float64 }

// gibi is what vendors call a gigabyte of device memory: a 64 GB Ascend 910B2 reports
// 65,536 MiB, a 192 GB MI300X 196,592 MiB, an 80 GB H100 81,559 MiB.
const gibi = 1 << 30

// HardwareOf takes the numbers of a chip from the catalogue: of a range the middle,
// of variants the first, both said in Assumed. What a prediction needs and nobody knows
// is a *fault.Input that names the field, unless it can be had from a sister chip of the same architecture.
func HardwareOf(c chip.Chip, sisters ...chip.Chip) (Hardware, error) {
	h := Hardware{Chip: c.Name, Arch: c.Of(chip.Arch).Text(), Peak: map[string]float64{}}
	for _, format := range []string{"bf16", "fp16", "fp8", "fp4", "tf32", "fp32"} {
		field, _ := chip.Peak(format)
		if x, ok := h.number(c, field); ok {
			h.Peak[format] = x * 1e12
		}
	}
	for _, n := range []struct {
		field  chip.Field
		to     *float64
		scale  float64
		needed bool
	}{
		{chip.MemoryGB, &h.Memory, gibi, true},
		{chip.BandwidthGBs, &h.Bandwidth, 1e9, true},
		{chip.LinkGBs, &h.Link, 1e9, true},
		{chip.PairGBs, &h.Pair, 1e9, false},
		{chip.NICGbits, &h.NIC, 1e9 / 8, true},
		{chip.HostLinkGBs, &h.Host, 1e9, false},
		{chip.MTBFHours, &h.MTBF, 3600, false},
	} {
		x, ok := h.number(c, n.field)
		if !ok && n.needed && !c.Of(n.field).None() {
			x, ok = h.sister(c, n.field, sisters)
		}
		if !ok && n.needed && !c.Of(n.field).None() {
			return Hardware{}, &fault.Input{Where: c.Name, Value: string(n.field), Problem: "is not known", Next: "state it for the pool in the fleet file"}
		}
		*n.to = x * n.scale
	}
	h.Group, h.NodeChips = h.many(c, chip.LinkGroup), h.many(c, chip.NodeChips)
	return h, nil
}

// many is a number of chips: one where there are no such groups, and, which is said, where
// nobody knows.
func (h *Hardware) many(c chip.Chip, field chip.Field) int {
	n, ok := h.number(c, field)
	if !ok && !c.Of(field).None() {
		h.Assumed = append(h.Assumed, string(field)+" 1: not known")
	}
	return max(1, int(n))
}

// sister finds a figure of another chip of the architecture, of which it is taken for granted.
func (h *Hardware) sister(c chip.Chip, field chip.Field, sisters []chip.Chip) (float64, bool) {
	for _, s := range sisters {
		if s.Of(chip.Arch).Text() != h.Arch || h.Arch == "" {
			continue
		}
		if x, ok := s.Of(field).Exact(); ok {
			h.Assumed = append(h.Assumed, fmt.Sprintf("%s %g of %s", field, x, s.Name))
			return x, true
		}
	}
	return 0, false
}

// number is a figure as one number; that it stands for several is said.
func (h *Hardware) number(c chip.Chip, field chip.Field) (float64, bool) {
	x, how, ok := c.Of(field).One()
	if how != "" {
		h.Assumed = append(h.Assumed, string(field)+" "+how)
	}
	return x, ok
}

// Usual is the training software of the chip, where none is named.
func (h Hardware) Usual() Stack {
	switch {
	case strings.HasPrefix(h.Arch, "Ascend"):
		return MindSpeed
	case strings.HasPrefix(h.Arch, "gfx"):
		return Primus
	}
	return Megatron
}

// Family is the architectures that share constants.
func (h Hardware) Family() string {
	switch {
	case strings.HasPrefix(h.Arch, "Ascend"):
		return "ascend"
	case strings.HasPrefix(h.Arch, "gfx"):
		return "gfx"
	}
	return h.Arch
}

// fitted says whether constants of the family were fitted to chips of this architecture:
// those of ascend to the 910B, those of gfx to the MI355X. For the family's others they are
// an assumption.
func (h Hardware) fitted() bool {
	switch h.Family() {
	case "ascend":
		return strings.HasPrefix(h.Arch, "Ascend910B")
	case "gfx":
		return h.Arch == "gfx950"
	}
	return true
}

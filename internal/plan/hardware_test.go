package plan_test

import (
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// Groups that nobody knows are one chip, and that is said; where there are none it is no
// assumption.
func TestUnknownGroupsAreSaid(t *testing.T) {
	for name, want := range map[string]bool{"mlu370-x8": true, "h100-80g-pcie": false, "h100-80g-sxm": false} {
		c, err := chip.Builtin().Find(name)
		if err != nil {
			t.Fatal(err)
		}
		h, err := plan.HardwareOf(c, chip.Builtin().Chips()...)
		if err != nil {
			t.Fatal(err)
		}
		if said := slices.Contains(h.Assumed, "node_chips 1: not known") || slices.Contains(h.Assumed, "link_group 1: not known"); said != want {
			t.Errorf("%s: %q", name, h.Assumed)
		}
	}
}

// What devices report of their memory, in MiB, as nvidia-smi, npu-smi, rocm-smi and
// their like print it.
func TestMemoryIsWhatDevicesReport(t *testing.T) {
	for name, mebi := range map[string]float64{
		"ascend-910b2": 65536, "mi300x": 196592, "h100-80g-sxm": 81559, "h20": 97871, "h200-141g-sxm": 143771, "b200": 183359, "mtt-s4000": 49152,
	} {
		if got := hardware(t, name).Memory / (1 << 20); math.Abs(got/mebi-1) > 0.01 {
			t.Errorf("%s: %.0f MiB, devices report %.0f", name, got, mebi)
		}
	}
}

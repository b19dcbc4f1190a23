package plan_test

import (
	"math"
	"testing"
)

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

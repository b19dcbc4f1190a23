package fit

import (
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// Kernel is a measured share of the peak: the median over shapes of training.
type Kernel struct {
	Chip   plan.Hardware
	Format string
	Share  float64
}

// Kernels are those of the table that the program carries.
func Kernels(chips chip.Catalogue) []Kernel {
	var out []Kernel
	for _, m := range chip.BuiltinTable().Rows {
		share, ok := m.Share()
		if !ok || m.Shape != chip.TrainingShape || m.Operation != chip.Product {
			continue
		}
		c, err := chips.Find(m.Chip)
		if err != nil {
			continue
		}
		if h, err := plan.HardwareOf(c, chips.Chips()...); err == nil {
			out = append(out, Kernel{h, m.Format, share})
		}
	}
	return out
}

// shapes of training are taken for what such tables hold: projections and MLPs of
// Llama 3 8B, 70B and 405B and DeepSeek-V2 and V3 with 4096 tokens on 1 to 8 tensor-parallel
// ranks.
func shapes() [][3]float64 {
	var out [][3]float64
	for _, tp := range []float64{1, 2, 4, 8} {
		for _, m := range [][2]float64{{4096, 14336}, {8192, 28672}, {16384, 53248}, {5120, 12288}, {7168, 18432}} {
			h, f := m[0], m[1]/tp
			out = append(out, [3]float64{4096, h, 1.25 * h / tp}, [3]float64{4096, h / tp, h}, [3]float64{4096, h, 2 * f}, [3]float64{4096, f, h})
		}
	}
	return out
}

// off is the logarithm of the predicted median share over the measured one, the other
// way around, as of times.
func (q Kernel) off(k plan.Constants) float64 {
	var shares []float64
	for _, s := range shapes() {
		shares = append(shares, k.Reached(q.Chip, q.Format, s[0], s[1], s[2]))
	}
	slices.Sort(shares)
	return math.Log(q.Share / shares[len(shares)/2])
}

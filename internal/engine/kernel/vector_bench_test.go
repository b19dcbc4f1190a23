package kernel_test

import (
	"fmt"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// BenchmarkSlice measures the slice functions on rows of the nano model (128), and on
// what does not fit the first-level cache.
func BenchmarkSlice(b *testing.B) {
	for _, s := range sets(b) {
		for _, n := range []int{128, 1 << 16} {
			x := [5][]float32{}
			for i := range x {
				x[i] = make([]float32, n)
			}
			step := kernel.NewAdamWStep(0.9, 0.95, 1e-8, 0.1, 1e-3, 1, 1)
			for _, f := range []struct {
				name string
				run  func()
			}{
				{"Axpy", func() { s.Axpy(x[0], x[1], 0.5) }},
				{"ScaleMul", func() { s.ScaleMul(x[0], x[1], x[2], 0.5) }},
				{"Dot", func() { s.Dot(x[0], x[1]) }},
				{"SumSquares", func() { s.SumSquares(x[0]) }},
				{"Max", func() { s.Max(x[0]) }},
				{"ExpSum", func() { s.ExpSum(x[0], x[1], 1) }},
				{"SwiGLU", func() { s.SwiGLU(x[0], x[1], x[2]) }},
				{"SwiGLUGrad", func() { s.SwiGLUGrad(x[0], x[1], x[2], x[3], x[4]) }},
				{"AdamW", func() { s.AdamW(x[0], x[1], x[2], x[3], step) }},
			} {
				b.Run(fmt.Sprintf("%s/%s/%d", s.Name(), f.name, n), func(b *testing.B) {
					for b.Loop() {
						f.run()
					}
					b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(n), "ns/element")
				})
			}
		}
	}
}

package numeric

import (
	"testing"

	"github.com/mistura-project/mistura/internal/rng"
)

// BenchmarkMultiply is a product of 64×64×512.
func BenchmarkMultiply(b *testing.B) {
	for _, model := range Accumulations() {
		b.Run(model.Name, func(b *testing.B) {
			const m, n, k = 64, 64, 512
			s, f := rng.New(1, rng.Test, 0), formatOf(model)[0]
			x, y, c := draw(s, f, m*k), draw(s, f, n*k), make([]float32, m*n)
			var left, right Operand
			for b.Loop() {
				left.Load(x, m, k, f.MinExponent(), nil)
				right.Load(y, n, k, f.MinExponent(), nil)
				model.Multiply(c, n, &left, &right)
			}
			b.ReportMetric(m*n*k*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mproducts/s")
		})
	}
}

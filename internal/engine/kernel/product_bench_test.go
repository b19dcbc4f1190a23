package kernel_test

import (
	"fmt"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// BenchmarkProduct measures shapes of the nano model (rows 64 and 512, inner and
// outer 64 to 384) and one of a larger model.
func BenchmarkProduct(b *testing.B) {
	shapes := [][3]int{{512, 128, 128}, {64, 96, 128}, {64, 128, 96}, {512, 256, 384}, {256, 1024, 1024}}
	for _, name := range kernel.Available() {
		set, err := kernel.New(name)
		if err != nil {
			b.Fatal(err)
		}
		for _, l := range layouts(set) {
			for _, s := range shapes {
				m, n, k := s[0], s[1], s[2]
				b.Run(fmt.Sprintf("%s/%s/%dx%dx%d", name, l.name, m, n, k), func(b *testing.B) {
					a, bb, c := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
					lda, ldb := l.leading(m, n, k)
					for b.Loop() {
						l.run(c, a, bb, m, n, k, lda, ldb, n, true)
					}
					b.ReportMetric(2*float64(m*n*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}

type product func(c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool)

type layout struct {
	name string
	run  product
	// at gives the offsets of A(i, p) and B(p, j).
	at func(i, j, p, lda, ldb int) (int, int)
	// leading gives the smallest leading dimensions.
	leading func(m, n, k int) (lda, ldb int)
}

func layouts(s *kernel.Set) []layout {
	return []layout{
		{"NN", s.NN,
			func(i, j, p, lda, ldb int) (int, int) { return i*lda + p, p*ldb + j },
			func(m, n, k int) (int, int) { return k, n }},
		{"NT", s.NT,
			func(i, j, p, lda, ldb int) (int, int) { return i*lda + p, j*ldb + p },
			func(m, n, k int) (int, int) { return k, k }},
		{"TN", s.TN,
			func(i, j, p, lda, ldb int) (int, int) { return p*lda + i, p*ldb + j },
			func(m, n, k int) (int, int) { return m, n }},
	}
}

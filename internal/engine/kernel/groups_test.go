package kernel_test

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// groupSize draws the rows of one group: none, one, primes around the edges of tiles, a
// chunk of the engine and one more.
func groupSize() *rapid.Generator[int] {
	return rapid.OneOf(rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3, 5, 7, 11, 13, 23, 29, 47, 127, 128, 129}), rapid.IntRange(0, 20))
}

// groupedCase is the products of a layer of experts: rows of x, group after group, each
// group with a weight matrix of its own.
type groupedCase struct {
	sizes     []int
	out, in   int
	x, dY     guarded   // [rows, in], [rows, out]
	weight, g []guarded // [out, in] of each group; gradients that are added to
}

func drawGrouped(t *rapid.T) groupedCase {
	c := groupedCase{
		sizes: rapid.SliceOfN(groupSize(), 1, 6).Draw(t, "groups"),
		out:   rapid.SampledFrom([]int{1, 2, 16, 31, 37, 64}).Draw(t, "out"),
		in:    rapid.SampledFrom([]int{1, 3, 16, 17, 32, 53}).Draw(t, "in"),
	}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	rows := 0
	for _, n := range c.sizes {
		rows += n
		c.weight = append(c.weight, newMatrix(r, c.out, c.in, c.in))
		c.g = append(c.g, newMatrix(r, c.out, c.in, c.in))
	}
	c.x, c.dY = newMatrix(r, rows, c.in, c.in), newMatrix(r, rows, c.out, c.out)
	return c
}

// grouped runs forward, gradient of the input and gradient of the weights of every
// group, by three layouts of products.
func (c groupedCase) grouped(nn, nt, tn product) (y, dX guarded, g []guarded) {
	y, dX = newGuarded(len(c.dY.x)), newGuarded(len(c.x.x))
	from := 0
	for e, n := range c.sizes {
		x, dY, w := c.x.x[from*c.in:], c.dY.x[from*c.out:], c.weight[e].x
		nt(y.x[from*c.out:], x, w, n, c.out, c.in, c.in, c.in, c.out, false)
		nn(dX.x[from*c.in:], dY, w, n, c.in, c.out, c.out, c.in, c.in, false)
		g = append(g, c.g[e].clone())
		tn(g[e].x, dY, x, c.out, c.in, n, c.out, c.in, c.in, true)
		from += n
	}
	return y, dX, g
}

// The danger: a group of no rows, of one, or of a prime number of them, whose product
// spills into its neighbour's rows or leaves a gradient that was there. Every set must
// give the bits of its twin in Go, in all three layouts.
func TestUnevenGroupsEqualTheirTwin(t *testing.T) {
	for _, s := range sets(t) {
		t.Run(s.Name(), func(t *testing.T) {
			var twins []product
			for _, l := range layouts(s) {
				twins = append(twins, func(c, a, b []float32, m, n, k, lda, ldb, ldc int, accumulate bool) {
					naive(l, chain(s.Name()), c, a, b, m, n, k, lda, ldb, ldc, accumulate)
				})
			}
			rapid.Check(t, func(t *rapid.T) {
				c := drawGrouped(t)
				y, dX, g := c.grouped(s.NN, s.NT, s.TN)
				wantY, wantDX, wantG := c.grouped(twins[0], twins[1], twins[2])
				if !same(y, wantY) || !same(dX, wantDX) {
					t.Fatal("outputs or gradients of inputs differ from the twin's")
				}
				for e := range g {
					if !same(g[e], wantG[e]) {
						t.Fatalf("gradient of group %d, of %d rows, differs from the twin's", e, c.sizes[e])
					}
				}
			})
		})
	}
}

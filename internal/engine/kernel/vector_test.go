package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// elementwise is one elementwise function seen as out[...] = f(in[...]), with its twin.
// Outputs are read as well where the function accumulates.
type elementwise struct {
	name     string
	outs     int
	ins      int
	run, ref func(out, in [][]float32)
}

func elementwiseOf(s *kernel.Set) []elementwise {
	w := twinOf(s)
	const alpha = 0.37
	adam := kernel.NewAdamWStep(0.9, 0.95, 1e-8, 0.1, 3e-3, 0.7, 3)
	return []elementwise{
		{"Axpy", 1, 1,
			func(o, in [][]float32) { s.Axpy(o[0], in[0], alpha) },
			func(o, in [][]float32) { w.axpy(o[0], in[0], alpha) }},
		{"Scale", 1, 0,
			func(o, _ [][]float32) { s.Scale(o[0], alpha) },
			func(o, _ [][]float32) { each(o[0], func(i int) float32 { return o[0][i] * alpha }) }},
		{"Add", 1, 1,
			func(o, in [][]float32) { s.Add(o[0], in[0]) },
			func(o, in [][]float32) { each(o[0], func(i int) float32 { return o[0][i] + in[0][i] }) }},
		{"ScaleMul", 1, 2,
			func(o, in [][]float32) { s.ScaleMul(o[0], in[0], in[1], alpha) },
			func(o, in [][]float32) {
				each(o[0], func(i int) float32 { return float32(alpha*in[0][i]) * in[1][i] })
			}},
		{"AddMul", 1, 2,
			func(o, in [][]float32) { s.AddMul(o[0], in[0], in[1], alpha) },
			func(o, in [][]float32) { w.addMul(o[0], in[0], in[1], alpha) }},
		{"MulSub", 1, 2,
			func(o, in [][]float32) { s.MulSub(o[0], in[0], in[1], alpha) },
			func(o, in [][]float32) {
				each(o[0], func(i int) float32 { return in[0][i] * (in[1][i] - alpha) })
			}},
		{"SwiGLU", 1, 2,
			func(o, in [][]float32) { s.SwiGLU(o[0], in[0], in[1]) },
			func(o, in [][]float32) { w.swiGLU(o[0], in[0], in[1]) }},
		{"SwiGLUGrad", 2, 3,
			func(o, in [][]float32) { s.SwiGLUGrad(o[0], o[1], in[0], in[1], in[2]) },
			func(o, in [][]float32) { w.swiGLUGrad(o[0], o[1], in[0], in[1], in[2]) }},
		{"AdamW", 3, 1,
			func(o, in [][]float32) { square(o[2]); s.AdamW(o[0], in[0], o[1], o[2], adam) },
			func(o, in [][]float32) { square(o[2]); w.adamW(o[0], in[0], o[1], o[2], adam) }},
		{"ExpSum", 1, 1,
			func(o, in [][]float32) { s.ExpSum(o[0], in[0], alpha) },
			func(o, in [][]float32) { w.expSum(o[0], in[0], alpha) }},
	}
}

func each(dst []float32, f func(i int) float32) {
	for i := range dst {
		dst[i] = f(i)
	}
}

// square makes second moments out of normal numbers.
func square(x []float32) { each(x, func(i int) float32 { return x[i] * x[i] }) }

// special are values that take a path of their own.
var special = []float32{0, float32(math.Copysign(0, -1)), 88.72283, 88.8, 89.5, -87.5, -103.9, -104.5,
	1e-40, -1e30, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}

// fill puts normal numbers, spread so that exp is taken over its whole range, and
// now and then a special value.
func fill(r *rand.Rand, x []float32) {
	for i := range x {
		x[i] = float32(r.NormFloat64())
		switch r.IntN(40) {
		case 0:
			x[i] = special[r.IntN(len(special))]
		case 1, 2, 3:
			x[i] *= 40
		}
	}
}

func newSlices(r *rand.Rand, count, n int) (all []guarded, inner [][]float32) {
	for range count {
		g := newGuarded(n)
		fill(r, g.x)
		all, inner = append(all, g), append(inner, g.x)
	}
	return all, inner
}

func cloneAll(from []guarded) (all []guarded, inner [][]float32) {
	for _, g := range from {
		c := g.clone()
		all, inner = append(all, c), append(inner, c.x)
	}
	return all, inner
}

func cut(x [][]float32, from, to int) [][]float32 {
	part := make([][]float32, len(x))
	for i := range x {
		part[i] = x[i][from:to:to]
	}
	return part
}

// The danger: a tail that takes other steps than the body, or touches words beyond
// the slice. Bits must equal the twin's, in one piece and in two.
func TestElementwiseEqualsTwin(t *testing.T) {
	for _, s := range sets(t) {
		for _, f := range elementwiseOf(s) {
			t.Run(s.Name()+"/"+f.name, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					n := size(150).Draw(t, "n")
					at := rapid.IntRange(0, n).Draw(t, "split")
					r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
					start, _ := newSlices(r, f.outs, n)
					_, in := newSlices(r, f.ins, n)
					want, wantX := cloneAll(start)
					f.ref(wantX, in)
					got, gotX := cloneAll(start)
					f.run(gotX, in)
					split, splitX := cloneAll(start)
					f.run(cut(splitX, 0, at), cut(in, 0, at))
					f.run(cut(splitX, at, n), cut(in, at, n))
					for i := range want {
						if !same(got[i], want[i]) {
							t.Fatalf("output %d: %v, want %v", i, gotX[i], wantX[i])
						}
						if !same(split[i], want[i]) {
							t.Fatalf("output %d in two parts: %v, want %v", i, splitX[i], wantX[i])
						}
					}
				})
			})
		}
	}
}

// A destination may be the source itself.
func TestElementwiseInPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	for _, s := range sets(t) {
		all, x := newSlices(r, 3, 77)
		want, wantX := cloneAll(all)
		s.SwiGLUGrad(wantX[0], wantX[1], x[0], x[1], x[2])
		s.SwiGLUGrad(x[0], x[1], x[0], x[1], x[2])
		for i := range 2 {
			if !same(all[i], want[i]) {
				t.Errorf("%s: SwiGLUGrad in place differs in output %d", s.Name(), i)
			}
		}
		e := all[2].clone()
		sum := s.ExpSum(e.x, x[2], 1)
		if got := s.ExpSum(x[2], x[2], 1); !same(e, all[2]) || math.Float32bits(got) != math.Float32bits(sum) && sum == sum {
			t.Errorf("%s: ExpSum in place differs", s.Name())
		}
	}
}

func TestReductionsEqualTwin(t *testing.T) {
	for _, s := range sets(t) {
		w := twinOf(s)
		t.Run(s.Name(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := size(300).Draw(t, "n")
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
				x, y := newMatrix(r, 1, n, n), newMatrix(r, 1, n, n)
				if n > 0 && rapid.Bool().Draw(t, "special") {
					x.x[r.IntN(n)] = special[r.IntN(len(special))]
				}
				dst, dst2 := newGuarded(n), newGuarded(n)
				wantBits(t, "Dot", s.Dot(x.x, y.x), w.dot(x.x, y.x))
				wantBits(t, "ExpSum", s.ExpSum(dst.x, x.x, 0.5), w.expSum(dst2.x, x.x, 0.5))
				wantBits(t, "SumSquares", s.SumSquares(x.x), w.sumSquares(x.x))
				top := float32(math.Inf(-1))
				for _, v := range x.x {
					if v > top {
						top = v
					}
				}
				if got := s.Max(x.x); got != top {
					t.Fatalf("Max = %v, want %v", got, top)
				}
				if !dst.intact() {
					t.Fatal("ExpSum wrote outside its slice")
				}
			})
		})
	}
}

func wantBits[T float32 | float64](t *rapid.T, what string, got, want T) {
	if math.Float64bits(float64(got)) != math.Float64bits(float64(want)) && !(got != got && want != want) {
		t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

// The bound that ExpSum states: two units in the last place over the whole range, or half
// of the smallest denormal.
func TestExpError(t *testing.T) {
	for _, s := range sets(t) {
		t.Run(s.Name(), func(t *testing.T) {
			x, y := make([]float32, 1<<16), make([]float32, 1<<16)
			for i := range x {
				x[i] = float32(-105 + 195*float64(i)/float64(len(x)))
			}
			s.ExpSum(y, x, 0)
			worst := 0.0
			for i, v := range x {
				want := math.Exp(float64(v))
				if want > math.MaxFloat32 {
					if !math.IsInf(float64(y[i]), 1) {
						t.Fatalf("exp(%v) = %v, want +Inf", v, y[i])
					}
					continue
				}
				unit := float64(math.Nextafter32(float32(want), float32(math.Inf(1))) - float32(want))
				if float32(want) == math.MaxFloat32 {
					unit = math.Exp2(104)
				}
				worst = max(worst, math.Abs(float64(y[i])-want)/unit)
			}
			if worst > 2 {
				t.Errorf("error of %.3f units in the last place, want at most 2", worst)
			}
			t.Logf("largest error %.3f units in the last place", worst)
		})
	}
}

func TestSoftmax(t *testing.T) {
	for _, s := range sets(t) {
		x := []float32{1000, 1001, 999.5, float32(math.Inf(-1)), 1000}
		top, sum := s.Softmax(x)
		if top != 1001 {
			t.Errorf("%s: top = %v, want 1001", s.Name(), top)
		}
		total, logits := 0.0, []float64{-1, 0, -1.5, math.Inf(-1), -1}
		for i, v := range x {
			total += float64(v)
			if want := math.Exp(logits[i]) / float64(sum); math.Abs(float64(v)-want) > 3e-7 {
				t.Errorf("%s: softmax[%d] = %v, want %v", s.Name(), i, v, want)
			}
		}
		if math.Abs(total-1) > 3e-7 {
			t.Errorf("%s: softmax sums to %v", s.Name(), total)
		}
		bad := []float32{1, float32(math.NaN()), 2}
		s.Softmax(bad)
		for i, v := range bad {
			if v == v {
				t.Errorf("%s: softmax[%d] = %v beside a NaN, want NaN", s.Name(), i, v)
			}
		}
	}
}

// One update against the formula in float64.
func TestAdamWAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 2))
	const n, beta1, beta2, eps, decay, rate = 101, 0.9, 0.95, 1e-8, 0.1, 1e-3
	for _, s := range sets(t) {
		p, g, m, v := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		p64, m64, v64 := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range p {
			p[i] = float32(r.NormFloat64())
			p64[i] = float64(p[i])
		}
		for step := uint64(1); step <= 5; step++ {
			for i := range g {
				g[i] = float32(r.NormFloat64())
				x := 0.5 * float64(g[i])
				m64[i] = beta1*m64[i] + (1-beta1)*x
				v64[i] = beta2*v64[i] + (1-beta2)*x*x
				mHat := m64[i] / (1 - math.Pow(beta1, float64(step)))
				vHat := v64[i] / (1 - math.Pow(beta2, float64(step)))
				p64[i] -= rate * (mHat/(math.Sqrt(vHat)+eps) + decay*p64[i])
			}
			s.AdamW(p, g, m, v, kernel.NewAdamWStep(beta1, beta2, eps, decay, rate, 0.5, step))
		}
		for i := range p {
			if math.Abs(float64(p[i])-p64[i]) > 1e-6 {
				t.Fatalf("%s: parameter %d is %v, want %v", s.Name(), i, p[i], p64[i])
			}
		}
	}
}

func TestSliceFunctionsRefuseUnequalLengths(t *testing.T) {
	a, b := make([]float32, 5), make([]float32, 4)
	for _, s := range sets(t) {
		for i, f := range []func(){
			func() { s.Axpy(a, b, 1) }, func() { s.Add(a, b) },
			func() { s.ScaleMul(a, a, b, 1) }, func() { s.AddMul(a, b, a, 1) }, func() { s.MulSub(b, a, a, 1) },
			func() { s.SwiGLU(a, a, b) }, func() { s.SwiGLUGrad(a, a, a, a, b) },
			func() { s.AdamW(a, a, a, b, kernel.AdamWStep{}) },
			func() { s.ExpSum(a, b, 0) }, func() { s.Dot(a, b) },
		} {
			t.Run(fmt.Sprintf("%s/%d", s.Name(), i), func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				f()
			})
		}
	}
}

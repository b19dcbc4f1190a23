package engine

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// Products of groups against loops, whatever the number of workers.
func TestProductsOfGroups(t *testing.T) {
	set, err := kernel.New("")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(name string, most int) int { return rapid.IntRange(1, most).Draw(rt, name) }
		groups, m, n, k := draw("groups", 5), draw("m", 9), draw("n", 9), draw("k", 9)
		p := NewProducts(set, draw("threads", 4))
		defer p.Close()
		x, w, y, dW := floats(groups*m*k), floats(groups*n*k), floats(groups*m*n), floats(groups*n*k)
		fill(x)
		fill(w)
		p.Linear(y, x, w, groups, m, n, k)
		p.LinearGrad(dW, y, x, groups, m, n, k)
		back := floats(m * k)
		p.NN(back, y, w, m, k, n)
		for g := range groups {
			x, w, y, dW := x[g*m*k:], w[g*n*k:], y[g*m*n:], dW[g*n*k:]
			alike(rt, y[:m*n], m, n, k, func(i, j, l int) (float32, float32) { return x[i*k+l], w[j*k+l] })
			alike(rt, dW[:n*k], n, k, m, func(i, j, l int) (float32, float32) { return y[l*n+i], x[l*k+j] })
			if g == 0 {
				alike(rt, back, m, k, n, func(i, j, l int) (float32, float32) { return y[i*n+l], w[l*k+j] })
			}
		}
	})
}

// alike compares c [m, n] with sums over k.
func alike(t *rapid.T, c []float32, m, n, k int, of func(i, j, l int) (float32, float32)) {
	for i := range m {
		for j := range n {
			sum := 0.0
			for l := range k {
				a, b := of(i, j, l)
				sum += float64(a) * float64(b)
			}
			if got := float64(c[i*n+j]); math.Abs(got-sum) > 1e-4 {
				t.Fatalf("[%d, %d] is %v, want %v", i, j, got, sum)
			}
		}
	}
}

// Attention alone against the definition, forward, and backward against differences.
func TestAttentionAlone(t *testing.T) {
	set, err := kernel.New("")
	if err != nil {
		t.Fatal(err)
	}
	const tokens, heads, width = queryBlock + 3, 3, 4
	a, err := NewAttention(set, 2, tokens, heads, width)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	qkv, dO := a.layer.acts.qkv, a.engine.dO
	a.Forward()
	a.Backward()
	want := attended(qkv, tokens, heads, width)
	for i, x := range a.layer.acts.o {
		if math.Abs(float64(x)-want[i]) > 1e-5 {
			t.Fatalf("output %d is %v, want %v", i, x, want[i])
		}
	}
	along := func() (sum float64) {
		for i, x := range attended(qkv, tokens, heads, width) {
			sum += x * float64(dO[i])
		}
		return sum
	}
	for i := 0; i < len(qkv); i += 37 {
		const h = 1e-2
		x := qkv[i]
		qkv[i] = x + h
		up := along()
		qkv[i] = x - h
		down := along()
		qkv[i] = x
		if slope, got := (up-down)/(2*h), float64(a.engine.dQKV[i]); math.Abs(slope-got) > 1e-3*(1+math.Abs(slope)) {
			t.Fatalf("gradient %d is %v, want %v", i, got, slope)
		}
	}
}

// attended is causal attention by its definition; queries are scaled already.
func attended(qkv []float32, tokens, heads, width int) []float64 {
	o := make([]float64, tokens*heads*width)
	row := 3 * heads * width
	for t := range tokens {
		for h := range heads {
			at := h * width
			sum, out := 0.0, make([]float64, width)
			for s := range t + 1 {
				score := 0.0
				for i := range width {
					score += float64(qkv[t*row+at+i]) * float64(qkv[s*row+heads*width+at+i])
				}
				p := math.Exp(score)
				sum += p
				for i := range width {
					out[i] += p * float64(qkv[s*row+2*heads*width+at+i])
				}
			}
			for i := range width {
				o[(t*heads+h)*width+i] = out[i] / sum
			}
		}
	}
	return o
}

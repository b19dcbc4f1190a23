package engine

import (
	"fmt"
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

func profile(t testing.TB, name string) *numeric.Profile {
	t.Helper()
	p, err := numeric.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// matrix is an operand as a reader of its definition sees it: element (i, p) is of row or
// column i of the result and index p of the inner dimension.
type matrix struct {
	x          []float32
	ld         int
	upright    bool
	outer, end int // lengths of the result's and of the inner dimension
}

func (m matrix) at(i, p int) float32 {
	if m.upright {
		return m.x[p*m.ld+i]
	}
	return m.x[i*m.ld+p]
}

// scaleAt gives the scale of element (i, p): tensor, unless there is one per block.
func (m matrix) scaleAt(r numeric.Rule, role numeric.Role, i, p int, tensor float32, seen map[[2]int]float32) float32 {
	if r.Scaling != numeric.PerBlock {
		return tensor
	}
	const block = numeric.ScaleBlock
	first, last := i, i+1
	if role == numeric.Weight {
		first, last = i/block*block, min(i/block*block+block, m.outer)
	}
	key := [2]int{first, p / block}
	if _, ok := seen[key]; !ok {
		most := float32(0)
		for j := first; j < last; j++ {
			for q := p / block * block; q < min(p/block*block+block, m.end); q++ {
				most = max(most, float32(math.Abs(float64(m.at(j, q)))))
			}
		}
		seen[key], _ = r.Of(role).Scale(most)
	}
	return seen[key]
}

// codes are the values that the format represents, and their scales, [outer][end].
func (m matrix) codes(r numeric.Rule, role numeric.Role, tensor float32) (values, scales [][]float32) {
	seen := map[[2]int]float32{}
	for i := range m.outer {
		var v, s []float32
		for p := range m.end {
			scale := m.scaleAt(r, role, i, p, tensor, seen)
			v, s = append(v, r.Of(role).Round(m.at(i, p)/scale)), append(s, scale)
		}
		values, scales = append(values, v), append(scales, s)
	}
	return values, scales
}

// inner is c + Σ a·b: in runs of one scale, whose codes are added up and then scaled, where
// groups of products have a say in the sum; else of the scaled values.
func inner(r numeric.Rule, t call, c float32, a, b, scaleA, scaleB []float32) float32 {
	minA, minB := r.Of(t.a).MinExponent(), r.Of(t.b).MinExponent()
	if r.Scaling == numeric.PerBlock && r.Sum.Kind != numeric.Plain {
		for from := 0; from < len(a); from += numeric.ScaleBlock {
			to := min(from+numeric.ScaleBlock, len(a))
			c += r.Sum.Dot(0, a[from:to], b[from:to], minA, minB) * (scaleA[from] * scaleB[from])
		}
		return c
	}
	x, y := make([]float32, len(a)), make([]float32, len(b))
	for i := range a {
		x[i], y[i] = a[i]*scaleA[i], b[i]*scaleB[i]
	}
	return r.Sum.Dot(c, x, y, minA, minB)
}

// naive is a product by definition.
func naive(r numeric.Rule, t call, p *product, tensorA, tensorB float32) []float32 {
	a, scaleA := matrix{p.a, p.lda, p.layout == tn, p.m, p.k}.codes(r, t.a, tensorA)
	b, scaleB := matrix{p.b, p.ldb, p.layout != nt, p.n, p.k}.codes(r, t.b, tensorB)
	c := append([]float32(nil), p.c...)
	for i := range p.m {
		for j := range p.n {
			old := float32(0)
			if p.accumulate {
				old = p.c[i*p.ldc+j]
			}
			if t.keep || r.Output.IsFP32() {
				c[i*p.ldc+j] = inner(r, t, old, a[i], b[j], scaleA[i], scaleB[j])
				continue
			}
			sum := r.Output.Round(inner(r, t, 0, a[i], b[j], scaleA[i], scaleB[j]))
			if p.accumulate {
				sum += old
			}
			c[i*p.ldc+j] = sum
		}
	}
	return c
}

// TestProductsAgreeWithDefinition: every rule of every profile, every layout and role,
// uneven shapes across the blocks, against three loops over the definitions of package
// numeric: the same bits in the portable set, whose sums are plain chains.
func TestProductsAgreeWithDefinition(t *testing.T) {
	cfg := enginetest.Configs()[0]
	seen := map[string]bool{} // rules that several profiles share
	shapes := [][3]int{{3, 5, 1}, {2, 131, 140}, {131, 2, 270}, {1, 1, 0}}
	for _, p := range numeric.Profiles() {
		e := newEngine(t, cfg, Options{Threads: 1, Kernel: kernelSet(t, "go"), Numeric: &p})
		e.training = true
		for op := range numeric.Operators {
			rule := p.Rules[op]
			key := fmt.Sprint(rule)
			if rule.Plain() || seen[key] {
				continue
			}
			seen[key] = true
			for s, shape := range shapes {
				if rule.Sum.Kind != numeric.Plain && s == 1 {
					shape = [3]int{2, 131, 33}
				}
				for layout := range layout(3) {
					checkProduct(t, e, rule, op, layout, shape, uint64(s))
				}
			}
		}
	}
}

func checkProduct(t *testing.T, e *Engine, rule numeric.Rule, op numeric.Operator, layout layout, shape [3]int, seed uint64) {
	t.Helper()
	m, n, k := shape[0], shape[1], shape[2]
	stream := rng.New(11, rng.Test, seed)
	draw := func(rows, ld int) []float32 {
		x := make([]float32, max(rows*ld, 1))
		for i := range x {
			x[i] = float32(math.Ldexp(stream.Normal(), int(stream.Uint32()%12)-6))
		}
		return x
	}
	for i, roles := range []call{linear{op, 0}.forward(), linear{op, 0}.inputGrad(), linear{op, 0}.weightGrad(), {op: op, b: numeric.Gradient, keep: true}} {
		p := product{layout: layout, m: m, n: n, k: k, ldc: n + 1, accumulate: i%2 == 1}
		p.c = draw(m, n+1)
		p.lda, p.ldb = k+2, n+3
		a, b := m, k
		if layout == tn {
			p.lda, a = m+2, k
		}
		if layout == nt {
			p.ldb, b = k+3, n
		}
		p.a, p.b = draw(a, p.lda), draw(b, p.ldb)
		scaleA, scaleB := float32(1), float32(1)
		if rule.Scaling == numeric.PerTensor {
			scaleA, _ = e.delayed.scale(roles.linear, roles.a)
			scaleB, _ = e.delayed.scale(roles.linear, roles.b)
		}
		want := naive(rule, roles, &p, scaleA, scaleB)
		w := e.pool.workers[0]
		switch layout {
		case nn:
			e.nn(w, roles, p.c, p.a, p.b, m, n, k, p.lda, p.ldb, p.ldc, p.accumulate)
		case nt:
			e.nt(w, roles, p.c, p.a, p.b, m, n, k, p.lda, p.ldb, p.ldc, p.accumulate)
		case tn:
			e.tn(w, roles, p.c, p.a, p.b, m, n, k, p.lda, p.ldb, p.ldc, p.accumulate)
		}
		if at := sameBits(p.c, want); at >= 0 {
			t.Fatalf("%s, %s, layout %d, %v, roles %d: element %d is %v, want %v", e.Numeric(), op, layout, shape, i, at, p.c[at], want[at])
		}
	}
}

// gradients are those of a batch, under a profile, on large random weights.
func gradients(t testing.TB, cfg model.Config, p *numeric.Profile, threads int) ([]float32, float64) {
	t.Helper()
	e := newEngine(t, cfg, Options{Threads: threads, Numeric: p})
	for i := range e.params {
		e.params[i] /= 4
	}
	e.ZeroGrads()
	stats, err := e.Backward(Batch{Tokens: randomTokens(cfg, 5, 3, 50), Rows: 3})
	if err != nil {
		t.Fatal(err)
	}
	return e.grads, stats.LossSum
}

// distance is the L2 norm of the difference over that of want.
func distance(got, want []float32) float64 {
	wide := make([]float64, len(want))
	for i, x := range want {
		wide[i] = float64(x)
	}
	return relative(got, wide)
}

// TestGradientsAreNearFP32: an emulated format moves gradients by about its own precision,
// and does move them. The bounds are some times 2^-(mantissa bits + 1): errors add up over
// the layers, and choices of experts may flip.
func TestGradientsAreNearFP32(t *testing.T) {
	cfg := named(t, "dense only") // no router: no choice flips
	want, loss := gradients(t, cfg, nil, 1)
	for name, bound := range map[string]float64{
		"bf16": 1e-2, "fp16": 2e-3, "tf32": 2e-3, "hf32": 1e-3, "fp8-e4m3": 0.2, "fp8-hybrid": 0.4, "fp8-e4m3-fnuz": 0.2,
		"fp8-hybrid-fnuz": 0.4, "fp8-e4m3-hopper": 0.2, "a100-80g-sxm": 1e-2, "h800-80g-sxm": 1e-2, "mi300x": 1e-2, "mi250x": 1e-2,
		"ascend-910b2": 1e-2, "ppu-810e": 1e-2, "ascend-910a": 2e-3,
	} {
		got, gotLoss := gradients(t, cfg, profile(t, name), 1)
		if d := distance(got, want); !(d < bound) || d < bound/200 {
			t.Errorf("%s: gradients are off by %.2g, want below %g and not much below", name, d, bound)
		}
		if d := math.Abs(gotLoss/loss - 1); !(d < bound) || d == 0 {
			t.Errorf("%s: loss is off by %.2g", name, d)
		}
	}
}

// TestProfilesAreDeterministic is rule D2 for every kind of profile.
func TestProfilesAreDeterministic(t *testing.T) {
	cfg := named(t, "everything")
	for _, name := range []string{"bf16", "fp16", "tf32", "fp8-e4m3", "fp8-hybrid", "h800-80g-sxm", "mi300x", "mi250x", "fp8-e4m3-hopper", "ascend-910a"} {
		var params [][]float32
		for _, threads := range []int{1, 3} {
			e := newEngine(t, cfg, Options{Threads: threads, Numeric: profile(t, name)})
			train(t, e, NewAdamWOn(e.kernel, cfg, testAdamW(), threads), 0, 2, 50)
			params = append(params, e.params)
		}
		if at := sameBits(params[0], params[1]); at >= 0 {
			t.Errorf("%s: %s differs between 1 and 3 threads", name, tensorAt(cfg, at))
		}
	}
}

// TestEmulatedGradientsDoNotDependOnTheCut: three sequences in one call or in three give
// the same bits under profiles without scales and with fp32 sums, those that round results
// included. Groups of products and blocks of scales run over tokens, from the first of a call.
func TestEmulatedGradientsDoNotDependOnTheCut(t *testing.T) {
	cfg := named(t, "everything")
	tokens := randomTokens(cfg, 12, 3, 40)
	for _, name := range []string{"bf16", "tf32", "ascend-910a"} {
		var grads [2][]float32
		for i, rows := range []int{3, 1} {
			e := newEngine(t, cfg, Options{Threads: 2, Numeric: profile(t, name)})
			e.ZeroGrads()
			for from := 0; from < len(tokens); from += rows * 41 {
				if _, err := e.Backward(Batch{Tokens: tokens[from : from+rows*41], Rows: rows}); err != nil {
					t.Fatal(err)
				}
			}
			grads[i] = e.grads
		}
		if at := sameBits(grads[0], grads[1]); at >= 0 {
			t.Errorf("%s: %s differs", name, tensorAt(cfg, at))
		}
	}
}

// TestFP32ProfileIsNoProfile: naming fp32 changes no bit.
func TestFP32ProfileIsNoProfile(t *testing.T) {
	cfg := named(t, "everything")
	want, _ := gradients(t, cfg, nil, 2)
	got, _ := gradients(t, cfg, profile(t, "fp32"), 2)
	if at := sameBits(got, want); at >= 0 {
		t.Errorf("%s differs", tensorAt(cfg, at))
	}
}

// TestWhatIsNotFiniteIsSeen: a NaN or infinite weight makes the loss or the gradients not
// finite under every profile, saturating 8-bit formats included.
func TestWhatIsNotFiniteIsSeen(t *testing.T) {
	cfg := named(t, "dense only")
	for _, p := range numeric.Profiles() {
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			e := newEngine(t, cfg, Options{Threads: 1, Numeric: &p})
			e.w.layers[0].qkv[1] = float32(bad)
			e.ZeroGrads()
			stats, err := e.Backward(Batch{Tokens: randomTokens(cfg, 6, 1, 20), Rows: 1})
			if err != nil {
				t.Fatal(err)
			}
			s := NewAdamWOn(e.kernel, cfg, testAdamW(), 1).Step(e.params, e.grads, 1e-3)
			finite := !math.IsNaN(stats.LossSum) && !math.IsInf(stats.LossSum, 0)
			if s.Applied && finite && !e.Overflowed() {
				t.Errorf("%s: a weight of %v gives loss %v and gradient norm %v", p.Name, bad, stats.LossSum, s.GradNorm)
			}
		}
	}
}

// TestMastersStayFP32 is case B11: an update of 6e-4 on a weight of 1 is lost in bf16
// storage, and moves it to 0.94 in 100 steps with an fp32 master. The engine's parameters are
// masters under every profile: products round copies.
func TestMastersStayFP32(t *testing.T) {
	const rate, steps = 6e-4, 100
	stored := float32(1)
	for range steps {
		stored = numeric.BF16().Round(stored - rate)
	}
	if stored != 1 {
		t.Errorf("a weight stored in bf16 moves to %v", stored)
	}
	cfg := named(t, "dense only")
	e := newEngine(t, cfg, Options{Threads: 1, Numeric: profile(t, "bf16")})
	adam := NewAdamWOn(e.kernel, cfg, AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, 1)
	for i := range e.params {
		e.params[i] = 1
	}
	for range steps {
		for i := range e.grads {
			e.grads[i] = 0.5
		}
		adam.Step(e.params, e.grads, rate)
	}
	if x := float64(e.params[7]); math.Abs(x-0.94) > 1e-5 {
		t.Errorf("with an fp32 master the weight is %v after %d steps, want 0.94", x, steps)
	}
}

// TestLossFactorScalesGradients: a power of two changes the exponent of every gradient of
// the fp32 engine and nothing else.
func TestLossFactorScalesGradients(t *testing.T) {
	for _, cfg := range enginetest.Configs() {
		e := newEngine(t, cfg, Options{Threads: 1})
		b := Batch{Tokens: randomTokens(cfg, 8, 2, 19), Rows: 2, Boundaries: true, EndToken: 2}
		e.ZeroGrads()
		if _, err := e.Backward(b); err != nil {
			t.Fatal(err)
		}
		want := append([]float32(nil), e.grads...)
		e.SetLossFactor(64)
		e.ZeroGrads()
		if _, err := e.Backward(b); err != nil {
			t.Fatal(err)
		}
		e.ScaleGrads(1.0 / 64)
		if at := sameBits(e.grads, want); at >= 0 {
			t.Errorf("%s: %s is %v, want %v", cfg.Name, tensorAt(cfg, at), e.grads[at], want[at])
		}
	}
}

// TestFP16Overflow: too large a loss factor makes infinite gradients and the step is not
// applied; a chip that saturates hides them and says so by its flag.
func TestFP16Overflow(t *testing.T) {
	cfg := named(t, "dense only")
	for name, saturates := range map[string]bool{"fp16": false, "ascend-910a": true} {
		e := newEngine(t, cfg, Options{Threads: 2, Numeric: profile(t, name)})
		adam := NewAdamWOn(e.kernel, cfg, testAdamW(), 1)
		b := Batch{Tokens: randomTokens(cfg, 9, 1, 30), Rows: 1}
		for _, c := range []struct {
			factor   float32
			overflow bool
		}{{1, false}, {0x1p20, true}, {1, false}} {
			e.SetLossFactor(c.factor)
			e.ZeroGrads()
			if _, err := e.Backward(b); err != nil {
				t.Fatal(err)
			}
			e.ScaleGrads(1 / c.factor)
			norm := math.Sqrt(e.kernel.SumSquares(e.grads))
			finite := !math.IsNaN(norm) && !math.IsInf(norm, 0)
			if finite == (c.overflow && !saturates) || e.Overflowed() != (c.overflow && saturates) {
				t.Errorf("%s, factor %v: norm %v, flag %v", name, c.factor, norm, e.Overflowed())
			}
			if !finite {
				if s := adam.Step(e.params, e.grads, 1e-3); s.Applied || adam.Steps() != 0 {
					t.Errorf("%s: a step of norm %v was applied", name, norm)
				}
			}
		}
	}
}

// TestDelayedScaling: the scale of a step is of the magnitudes of the steps before, the
// first one's is 1, and a state taken over gives the same bits as going on.
func TestDelayedScaling(t *testing.T) {
	cfg := named(t, "dense only")
	p := profile(t, "fp8-hybrid")
	e := newEngine(t, cfg, Options{Threads: 2, Numeric: p})
	adam := NewAdamWOn(e.kernel, cfg, testAdamW(), 1)
	if scale, _ := e.delayed.scale(0, numeric.Weight); scale != 1 {
		t.Errorf("before the first step: scale %v", scale)
	}
	most := e.kernel.MaxAbs(e.w.layers[0].qkv)
	train(t, e, adam, 0, 1, 33)
	e.ZeroGrads()
	want, _ := numeric.E4M3().Scale(most)
	if scale, _ := e.delayed.scale(0, numeric.Weight); scale != want || e.NumericState()[tensor(0, numeric.Weight)] != most {
		t.Errorf("after a step with a largest weight of %v: scale %v, want %v", most, scale, want)
	}
	if _, _, err := e.Loss(Batch{Tokens: randomTokens(cfg, 4, 1, 9), Rows: 1}); err != nil {
		t.Fatal(err)
	}
	before := append([]float32(nil), e.NumericState()...)
	e.ZeroGrads()
	if at := sameBits(e.NumericState(), before); at >= 0 {
		t.Error("an evaluation leaves a trace in the history")
	}

	other := newEngine(t, cfg, Options{Threads: 1, Numeric: p})
	copy(other.params, e.params)
	if err := other.SetNumericState(e.NumericState()); err != nil {
		t.Fatal(err)
	}
	m, v := adam.Moments()
	again := NewAdamWOn(e.kernel, cfg, testAdamW(), 1)
	am, av := again.Moments()
	copy(am, m)
	copy(av, v)
	again.SetSteps(adam.Steps())
	train(t, e, adam, 1, 3, 33)
	train(t, other, again, 1, 3, 33)
	if at := sameBits(e.params, other.params); at >= 0 {
		t.Errorf("%s differs after the state was taken over", tensorAt(cfg, at))
	}
	for _, bad := range [][]float32{nil, make([]float32, 3), append([]float32{-1}, before[1:]...), append([]float32{float32(math.NaN())}, before[1:]...)} {
		if err := other.SetNumericState(bad); err == nil {
			t.Errorf("a state of %d values is taken", len(bad))
		}
	}
}

package numeric

import (
	"math"
	"math/big"
	"testing"

	"github.com/mistura-project/mistura/internal/rng"
)

// twin computes a group in exact arithmetic, from the description in MMA-Sim alone: it
// knows neither float32 bits nor integers of fixed size.
type twin struct{ m Accumulation }

func exact(x float32) *big.Float { return new(big.Float).SetPrec(2000).SetFloat64(float64(x)) }

// exponent is floor(log2 |x|), at least least; ok is false for zero.
func exponent(x float32, least int) (e int, ok bool) {
	if x == 0 {
		return 0, false
	}
	_, e = math.Frexp(math.Abs(float64(x)))
	return max(e-1, least), true
}

// cut gives x as a multiple of 2^low, towards zero or down.
func cut(x *big.Float, low int, down bool) *big.Float {
	scaled := new(big.Float).SetPrec(2000).SetMantExp(x, -low)
	whole, accuracy := scaled.Int(nil)
	if down && accuracy == big.Above { // it was negative and not whole
		whole.Sub(whole, big.NewInt(1))
	}
	return new(big.Float).SetPrec(2000).SetMantExp(new(big.Float).SetPrec(2000).SetInt(whole), low)
}

func (w twin) group(c float32, a, b []float32, minA, minB int) float32 {
	top, any := math.MinInt, false
	products := make([]*big.Float, len(a))
	for i := range a {
		products[i] = new(big.Float).Mul(exact(a[i]), exact(b[i]))
		ea, okA := exponent(a[i], minA)
		eb, okB := exponent(b[i], minB)
		if okA && okB {
			top, any = max(top, ea+eb), true
		}
	}
	ec, okC := exponent(c, -126)
	if !okC {
		ec = -126
	}
	sum := new(big.Float).SetPrec(2000)
	if w.m.Kind == Aligned {
		top = max(top, ec)
		for _, p := range append(products, exact(c)) {
			sum.Add(sum, cut(p, top-w.m.Fraction, false))
		}
		return toward(sum, w.m.Result, big.ToZero)
	}
	if !any {
		return c
	}
	for _, p := range products {
		sum.Add(sum, cut(p, top-w.m.Fraction, false))
	}
	both := max(top, ec)
	sum = cut(sum, both-31, true)
	sum.Add(sum, cut(exact(c), both-24, true))
	return toward(sum, 23, big.ToNearestEven)
}

// toward rounds to a float32 with the given number of fraction bits.
func toward(x *big.Float, fraction int, mode big.RoundingMode) float32 {
	if x.Sign() == 0 {
		return 0
	}
	e := x.MantExp(nil) - 1
	precision := fraction + 1 + min(0, e+126) // of a subnormal, less
	if precision < 1 {
		return 0 // only ever cut off, or less than half of the smallest subnormal: see the test's range
	}
	y, _ := new(big.Float).SetMode(mode).SetPrec(uint(precision)).Set(x).Float32()
	return y
}

// draw makes operands whose exponents spread over the format's range or gather near
// its middle, with zeros, subnormals and cancellation among them.
func draw(s *rng.Stream, f Format, n int) []float32 {
	x := make([]float32, n)
	spread := 1 + int(s.Uint32()%6)*int(s.Uint32()%5)
	for i := range x {
		switch s.Uint32() % 16 {
		case 0:
		case 1:
			x[i] = f.MinSubnormal() * float32(s.Uint32()%8)
		default:
			x[i] = f.Round(float32(math.Ldexp(s.Normal(), int(s.Uint32()%uint32(spread))-spread/2)))
		}
		if s.Uint32()%2 == 0 {
			x[i] = -x[i]
		}
	}
	return x
}

// formatOf is a format that the model multiplies.
func formatOf(m Accumulation) []Format {
	if m.Fraction == 13 {
		return []Format{E4M3(), E5M2()}
	}
	return []Format{BF16(), FP16()}
}

// TestAccumulationAgreesWithExactTwin: groups in integers against groups in exact
// arithmetic.
func TestAccumulationAgreesWithExactTwin(t *testing.T) {
	for _, m := range Accumulations() {
		if m.Kind == Pairwise || m.Promote > 0 { // TestPairwise, TestAccumulationByHand
			continue
		}
		s := rng.New(7, rng.Test, 0)
		for i := range 4000 {
			f := formatOf(m)[i%2]
			a, b := draw(s, f, m.Group), draw(s, f, m.Group)
			c := float32(math.Ldexp(s.Normal(), int(s.Uint32()%40)-20))
			switch i % 8 {
			case 0:
				c = 0
			case 1:
				c = -a[0] * b[0] // cancels
			case 2:
				c = math.SmallestNonzeroFloat32 * float32(s.Uint32()%1000)
			}
			c = toward(exact(c), m.Result, big.ToZero) // what a group before could have left
			want := twin{m}.group(c, a, b, f.MinExponent(), f.MinExponent())
			if got := m.Dot(c, a, b, f.MinExponent(), f.MinExponent()); got != want {
				t.Fatalf("%s, %s: %v + %v · %v = %v, want %v", m, f, c, a, b, got, want)
			}
		}
	}
}

// TestMultiplyAgreesWithDot: the prepared product against the definition, to the bit,
// groups uneven and values that are not finite included.
func TestMultiplyAgreesWithDot(t *testing.T) {
	for _, model := range append(Accumulations(), Accumulation{}) {
		s := rng.New(8, rng.Test, 0)
		for i := range 60 {
			f := formatOf(model)[i%2]
			m, n, k := 1+int(s.Uint32()%4), 1+int(s.Uint32()%4), int(s.Uint32()%300)
			a, b, c := draw(s, f, m*k), draw(s, f, n*k), draw(s, BF16(), m*(n+1))
			if i%5 == 0 && k > 0 {
				a[int(s.Uint32())%len(a)] = float32(math.Inf(1 - 2*(i%2)))
			}
			if i%7 == 0 {
				c[0] = float32(math.NaN())
			}
			want := append([]float32(nil), c...)
			for r := range m {
				for j := range n {
					at := r*(n+1) + j
					want[at] = model.Dot(want[at], a[r*k:(r+1)*k], b[j*k:(j+1)*k], f.MinExponent(), f.MinExponent())
				}
			}
			var x, y Operand
			x.Load(a, m, k, f.MinExponent(), nil)
			y.Load(b, n, k, f.MinExponent(), nil)
			model.Multiply(c, n+1, &x, &y)
			for at := range c {
				if !same(c[at], want[at]) {
					t.Fatalf("%s, %d×%d×%d: element %d is %v, want %v", model, m, n, k, at, c[at], want[at])
				}
			}
		}
	}
}

// Cases worked out by hand.
func TestAccumulationByHand(t *testing.T) {
	ones := func(x float32, n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = x
		}
		return v
	}
	put := func(v []float32, i int, x float32) []float32 { v[i] = x; return v }
	for _, c := range []struct {
		name string
		m    Accumulation
		c    float32
		a, b []float32
		want float32
	}{
		{"Hopper FP8 keeps 13 bits below the largest", HopperFP8(), 1, ones(0x1p-13, 1), ones(1, 1), 1 + 0x1p-13},
		{"and no more", HopperFP8(), 1, ones(0x1p-14, 32), ones(1, 32), 1},
		{"which fp32 promotion every 128 gives back", HopperFP8Promoted(), 1, ones(0x1p-14, 128), ones(1, 128), 1 + 0x1p-7},
		{"Hopper bf16 keeps 25 bits in a group", Hopper(), 1, ones(0x1p-25, 16), ones(1, 16), 1 + 0x1p-21},
		{"and cuts the sum to 23", Hopper(), 1, ones(0x1p-25, 1), ones(1, 1), 1},
		{"a cut is towards zero", Hopper(), -1, ones(0x1p-25, 1), ones(1, 1), -1 + 0x1p-24},
		{"Ampere loses what Hopper keeps", Ampere(), 1, ones(0x1p-25, 8), ones(1, 8), 1},
		{"the largest product sets the place of the others", Hopper(), 0, put(ones(0x1p-14, 16), 0, 0x1p12), ones(1, 16), 4096},
		{"CDNA3 rounds to nearest", CDNA3(), 1, ones(0x1p-24, 1), ones(1.5, 1), 1 + 0x1p-23},
		{"CDNA3 drops what of the products is 31 bits below", CDNA3(), 1, []float32{0x1p-12, 0x1p-14}, []float32{0x1p-12, 0x1p-26}, 1},
		{"downwards", CDNA3(), 1 + 0x1p-22, []float32{-0x1p-12, -0x1p-14}, []float32{0x1p-12, 0x1p-26}, 1 + 0x1p-23},
		{"CDNA2 flushes subnormal inputs", CDNA2(), 0, ones(0x1p-15, 4), ones(1, 4), 0},
		{"and keeps normal ones", CDNA2(), 0, ones(0x1p-14, 4), ones(1, 4), 0x1p-12},
		{"fp32 is a plain chain", Accumulation{}, 1, ones(0x1p-24, 32), ones(1, 32), 1},
	} {
		if got := c.m.Dot(c.c, c.a, c.b, -14, -126); got != c.want {
			t.Errorf("%s: %v (%b), want %v (%b)", c.name, got, got, c.want, c.want)
		}
	}
}

// CDNA2's pairs against pairs written out, in float64 where each rounding is visible.
func TestPairwise(t *testing.T) {
	s := rng.New(9, rng.Test, 0)
	round := func(x float64) float64 {
		if math.Abs(x) < 0x1p-126 {
			return 0
		}
		return float64(float32(x)) // a sum of two float32 in float64 rounds as once: 53 ≥ 2·24 + 2
	}
	in := func(x float32) float64 {
		if math.Abs(float64(x)) < 0x1p-14 {
			return 0
		}
		return float64(x)
	}
	if got := CDNA2().Dot(0x1.8p-126, []float32{-0x1p-63}, []float32{0x1p-63}, -126, -126); got != 0 {
		t.Errorf("the subnormal sum %v is left", got)
	}
	for range 2000 {
		a, b, c := draw(s, FP16(), 8), draw(s, FP16(), 8), float32(s.Normal())
		p := make([]float64, 8)
		for i := range p {
			p[i] = round(in(a[i]) * in(b[i]))
		}
		want := round(float64(c) + round(round(p[0]+p[1])+round(p[2]+p[3])))
		want = round(want + round(round(p[4]+p[5])+round(p[6]+p[7])))
		if got := CDNA2().Dot(c, a, b, -14, -14); float64(got) != want {
			t.Fatalf("%v + %v · %v = %v, want %v", c, a, b, got, want)
		}
	}
}

// Infinity and NaN reach the sum; opposite infinities make NaN.
func TestAccumulationPassesWhatIsNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, m := range append(Accumulations(), Accumulation{}) {
		for _, c := range []struct {
			c          float32
			a, b, want []float32
		}{
			{0, []float32{inf, 1}, []float32{1, 1}, []float32{inf}},
			{0, []float32{1, -inf}, []float32{1, 1}, []float32{-inf}},
			{0, []float32{inf, inf}, []float32{1, -1}, []float32{nan}},
			{0, []float32{inf, 1}, []float32{0, 1}, []float32{nan}},
			{inf, []float32{1, 1}, []float32{1, 1}, []float32{inf}},
			{nan, []float32{1, 1}, []float32{1, 1}, []float32{nan}},
			{1, []float32{1, nan}, []float32{1, 1}, []float32{nan}},
		} {
			if got := m.Dot(c.c, c.a, c.b, -14, -14); !same(got, c.want[0]) {
				t.Errorf("%s: %v + %v · %v = %v, want %v", m, c.c, c.a, c.b, got, c.want[0])
			}
		}
	}
}

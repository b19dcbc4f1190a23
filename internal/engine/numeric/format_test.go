package numeric

import (
	"math"
	"math/big"
	"sort"
	"testing"
)

// short are the formats whose codes can be listed.
func short() []Format {
	var all []Format
	for _, f := range Formats() {
		if f.Bits() <= 16 {
			all = append(all, f)
		}
	}
	return all
}

// same compares bits, all NaN being one.
func same(a, b float32) bool {
	return a != a && b != b || math.Float32bits(a) == math.Float32bits(b)
}

// Figures from the formats' own papers and standards.
func TestFormatFigures(t *testing.T) {
	for _, c := range []struct {
		f                      Format
		bits                   int
		top, normal, subnormal float64
	}{
		{Format{}, 32, math.MaxFloat32, 0x1p-126, 0x1p-149},
		{BF16(), 16, 3.3895313892515355e38, 0x1p-126, 0x1p-133},
		{FP16(), 16, 65504, 0x1p-14, 0x1p-24},
		{TF32(), 19, 0x1.ffcp127, 0x1p-126, 0x1p-136},
		{HF32(), 20, 0x1.ffep127, 0x1p-126, 0x1p-137},
		{E4M3(), 8, 448, 0x1p-6, 0x1p-9},
		{E5M2(), 8, 57344, 0x1p-14, 0x1p-16},
		{E4M3FNUZ(), 8, 240, 0x1p-7, 0x1p-10},
		{E5M2FNUZ(), 8, 57344, 0x1p-15, 0x1p-17},
	} {
		top := float64(c.f.Max)
		if c.f.IsFP32() {
			top = math.MaxFloat32
		}
		if c.f.Bits() != c.bits || top != c.top || math.Ldexp(1, c.f.MinExponent()) != c.normal || float64(c.f.MinSubnormal()) != c.subnormal {
			t.Errorf("%s: %d bits, largest %v, normal from 2^%d, smallest %v", c.f, c.f.Bits(), top, c.f.MinExponent(), c.f.MinSubnormal())
		}
	}
}

// Every code decodes to a value that rounds to itself and encodes to the code again.
func TestEveryCode(t *testing.T) {
	for _, f := range short() {
		nans, infinities, negativeZeros := 0, 0, 0
		for c := range 1 << f.Bits() {
			code := uint16(c)
			x := f.Decode(code)
			switch {
			case x != x:
				nans++
				if y := f.Decode(f.Encode(x)); y == y {
					t.Fatalf("%s: NaN %#x came back as %v", f, code, y)
				}
				continue
			case math.IsInf(float64(x), 0):
				infinities++
				if f.Saturate {
					if got := f.Round(x); math.Abs(float64(got)) != float64(f.Max) {
						t.Fatalf("%s: infinity rounds to %v", f, got)
					}
					continue
				}
			case x == 0 && code != 0:
				negativeZeros++
			}
			if y := f.Round(x); !same(x, y) {
				t.Fatalf("%s: %#x is %v and rounds to %v", f, code, x, y)
			}
			if got := f.Encode(x); got != code {
				t.Fatalf("%s: %#x is %v, which encodes to %#x", f, code, x, got)
			}
		}
		wantNaN, wantInf, wantZero := 2<<f.Mantissa-2, 2, 1
		switch f.Specials {
		case NaNOnly:
			wantNaN, wantInf = 2, 0
		case FNUZ:
			wantNaN, wantInf, wantZero = 1, 0, 0
		}
		if nans != wantNaN || infinities != wantInf || negativeZeros != wantZero {
			t.Errorf("%s: %d NaN, %d infinities, %d negative zeros, want %d, %d, %d", f, nans, infinities, negativeZeros, wantNaN, wantInf, wantZero)
		}
	}
}

// Between two neighbours everything goes to the nearer one and the midpoint to the even
// code; the float32 next to a midpoint on either side goes that way.
func TestEveryMidpoint(t *testing.T) {
	for _, f := range short() {
		codes := 1 << (f.Bits() - 1)
		for c := range codes - 1 {
			low, high := f.Decode(uint16(c)), f.Decode(uint16(c+1))
			if high != high || math.IsInf(float64(high), 0) || low > f.Max {
				break
			}
			middle := (float64(low) + float64(high)) / 2
			even := low
			if c%2 == 1 {
				even = high
			}
			m := float32(middle)
			if float64(m) != middle { // below the smallest subnormal of fp32
				t.Fatalf("%s: no float32 between %v and %v", f, low, high)
			}
			for _, sign := range []float32{1, -1} {
				below, above := math.Nextafter32(m, low), math.Nextafter32(m, high)
				if got := f.Round(sign * m); got != sign*even {
					t.Fatalf("%s: %v rounds to %v, want %v", f, sign*m, got, sign*even)
				}
				if got := f.Round(sign * below); got != sign*low {
					t.Fatalf("%s: %v rounds to %v, want %v", f, sign*below, got, sign*low)
				}
				if got := f.Round(sign * above); got != sign*high {
					t.Fatalf("%s: %v rounds to %v, want %v", f, sign*above, got, sign*high)
				}
			}
		}
	}
}

// The step beyond Max decides about overflow: half of it still rounds back where Max is
// even, and goes over where it is odd.
func TestOverflow(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		f               Format
		x, want, beyond float64
	}{
		{FP16(), 65519, 65504, inf}, {FP16(), 65520, inf, inf}, {FP16(), 1e30, inf, inf},
		{FP16Saturating(), 65520, 65504, 65504}, {FP16Saturating(), 1e30, 65504, 65504},
		{BF16(), 3.3961775292304957e38, inf, inf}, {BF16(), 3.396e38, 3.3895313892515355e38, inf},
		{E4M3(), 464, 448, 448}, {E4M3(), 465, 448, 448}, {E4M3(), 1e30, 448, 448},
		{E5M2(), 61440, 57344, 57344}, {E4M3FNUZ(), 248, 240, 240}, {E5M2FNUZ(), 1e9, 57344, 57344},
	} {
		for _, sign := range []float64{1, -1} {
			if got := float64(c.f.Round(float32(sign * c.x))); got != sign*c.want {
				t.Errorf("%s: %v rounds to %v, want %v", c.f, sign*c.x, got, sign*c.want)
			}
			if got := float64(c.f.Round(float32(sign * inf))); got != sign*c.beyond {
				t.Errorf("%s: %v rounds to %v, want %v", c.f, sign*inf, got, sign*c.beyond)
			}
		}
		if got := c.f.Round(float32(nan)); got == got {
			t.Errorf("%s: NaN rounds to %v", c.f, got)
		}
	}
	unsaturated := E4M3()
	unsaturated.Saturate = false
	if got := unsaturated.Round(500); got == got {
		t.Errorf("E4M3 without saturation and infinity: 500 rounds to %v", got)
	}
}

// All upper halves of a float32 with lower halves that matter (ties of every format and
// their neighbours), against the nearest of the format's values found by search.
func TestRoundAgreesWithSearch(t *testing.T) {
	lows := []uint32{0, 1, 0x07ff, 0x0800, 0x0801, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff}
	for _, f := range short() {
		values := finite(f)
		for upper := range uint32(1 << 16) {
			for _, low := range lows {
				x := math.Float32frombits(upper<<16 | low)
				if x != x || math.Abs(float64(x)) > float64(f.Max) {
					continue // TestOverflow
				}
				if got, want := f.Round(x), nearest(values, x); got != want {
					t.Fatalf("%s: %v (%#x) rounds to %v, want %v", f, x, math.Float32bits(x), got, want)
				}
			}
		}
	}
}

// finite are the values from 0 to Max in order of their codes.
func finite(f Format) []float32 {
	var values []float32
	for c := range 1 << (f.Bits() - 1) {
		if x := f.Decode(uint16(c)); x <= f.Max {
			values = append(values, x)
		}
	}
	return values
}

func nearest(values []float32, x float32) float32 {
	magnitude := math.Abs(float64(x))
	i := sort.Search(len(values), func(i int) bool { return float64(values[i]) >= magnitude })
	if i > 0 {
		below, above := magnitude-float64(values[i-1]), float64(values[i])-magnitude
		if below < above || below == above && i%2 == 1 {
			i--
		}
	}
	if x < 0 {
		return -values[i]
	}
	return values[i]
}

// The formats with the exponent of fp32 are float32 numbers with fewer bits: big.Float
// rounds to that precision. Subnormals, whose precision falls, are counted in steps.
func TestWideFormatsAgreeWithBigFloat(t *testing.T) {
	lows := []uint32{0, 1, 0x07ff, 0x0800, 0x0801, 0x0fff, 0x1000, 0x1001, 0x17ff, 0x1800, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0xffff}
	for _, f := range []Format{BF16(), TF32(), HF32()} {
		for upper := range uint32(1 << 16) {
			for _, low := range lows {
				x := math.Float32frombits(upper<<16 | low)
				if x != x || math.IsInf(float64(x), 0) || math.Abs(float64(x)) < 0x1p-126 {
					continue
				}
				want, _ := new(big.Float).SetPrec(uint(f.Mantissa + 1)).SetMode(big.ToNearestEven).SetFloat64(float64(x)).Float32()
				if got := f.Round(x); got != want {
					t.Fatalf("%s: %v rounds to %v, want %v", f, x, got, want)
				}
			}
		}
		step := f.MinSubnormal()
		for i := range 1 << f.Mantissa {
			x := step * (float32(i) + 0.5) // exact
			want := step * float32(i+i%2)
			if got := f.Round(-x); got != -want {
				t.Fatalf("%s: %v rounds to %v, want %v", f, -x, got, -want)
			}
		}
	}
}

// Signs of zero stay where there are two zeros.
func TestSignedZero(t *testing.T) {
	for _, f := range Formats() {
		for _, x := range []float32{float32(math.Copysign(0, -1)), -f.MinSubnormal() / 4} {
			got := f.Round(x)
			if got != 0 || math.Signbit(float64(got)) == (f.Specials == FNUZ) {
				t.Errorf("%s: %v rounds to %v (sign %v)", f, x, got, math.Signbit(float64(got)))
			}
		}
	}
}

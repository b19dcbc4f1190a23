package numeric

import "math"

// Format is a binary floating-point format that float32 values are rounded to.
// The zero Format is fp32 itself: it rounds nothing.
type Format struct {
	Name     string
	Exponent int     // bits of the exponent
	Mantissa int     // stored bits of the significand
	Bias     int     // of the exponent
	Max      float32 // largest finite value
	Specials Specials
	// Saturate says that values beyond Max, infinity included, become Max; else
	// they become infinity, or NaN where the format has none. NaN stays NaN.
	Saturate bool
}

// Specials is what a format has besides finite numbers.
type Specials uint8

const (
	// IEEE formats keep the largest exponent for infinity and NaN.
	IEEE Specials = iota
	// NaNOnly formats have no infinity; NaN is all ones (OCP E4M3).
	NaNOnly
	// FNUZ formats have no infinity and no negative zero, whose code is the one NaN.
	FNUZ
)

// BF16 has the range of fp32.
func BF16() Format {
	return Format{Name: "bf16", Exponent: 8, Mantissa: 7, Bias: 127, Max: fromBits(0x7f7f0000)}
}

// FP16 is IEEE 754 binary16: what overflows becomes infinity.
func FP16() Format {
	return Format{Name: "fp16", Exponent: 5, Mantissa: 10, Bias: 15, Max: 65504}
}

// FP16Saturating is FP16 on a chip in saturation mode (Ascend 910A has no other):
// what overflows becomes 65504.
func FP16Saturating() Format {
	f := FP16()
	f.Name, f.Saturate = "fp16-saturating", true
	return f
}

// TF32 has the range of fp32 and the significand of fp16 (Nvidia A100 whitepaper).
func TF32() Format {
	return Format{Name: "tf32", Exponent: 8, Mantissa: 10, Bias: 127, Max: fromBits(0x7f7fe000)}
}

// HF32 is Huawei's: 8 bits of exponent and 11 of the significand, rounded to nearest
// even by default (CANN, Ascend C API: SetHF32, transMode 0).
func HF32() Format {
	return Format{Name: "hf32", Exponent: 8, Mantissa: 11, Bias: 127, Max: fromBits(0x7f7ff000)}
}

// E4M3 and E5M2 are the OCP 8-bit formats (OFP8 1.0, 2023), converted to with
// saturation, as training does (arXiv 2209.05433).
func E4M3() Format {
	return Format{Name: "fp8-e4m3", Exponent: 4, Mantissa: 3, Bias: 7, Max: 448, Specials: NaNOnly, Saturate: true}
}

// E5M2 has more range and less precision than E4M3: it is used for gradients.
func E5M2() Format {
	return Format{Name: "fp8-e5m2", Exponent: 5, Mantissa: 2, Bias: 15, Max: 57344, Saturate: true}
}

// E4M3FNUZ and E5M2FNUZ are those of AMD CDNA3 (arXiv 2206.02915): the bias is one
// higher than OCP's.
func E4M3FNUZ() Format {
	return Format{Name: "fp8-e4m3-fnuz", Exponent: 4, Mantissa: 3, Bias: 8, Max: 240, Specials: FNUZ, Saturate: true}
}

// E5M2FNUZ is E4M3FNUZ with a bit moved to the exponent.
func E5M2FNUZ() Format {
	return Format{Name: "fp8-e5m2-fnuz", Exponent: 5, Mantissa: 2, Bias: 16, Max: 57344, Specials: FNUZ, Saturate: true}
}

// Formats lists all formats that values are rounded to.
func Formats() []Format {
	return []Format{BF16(), FP16(), FP16Saturating(), TF32(), HF32(), E4M3(), E5M2(), E4M3FNUZ(), E5M2FNUZ()}
}

// IsFP32 says that the format rounds nothing.
func (f Format) IsFP32() bool { return f.Exponent == 0 }

// String is the format's name.
func (f Format) String() string {
	if f.IsFP32() {
		return "fp32"
	}
	return f.Name
}

// Bits is the size of one value.
func (f Format) Bits() int {
	if f.IsFP32() {
		return 32
	}
	return 1 + f.Exponent + f.Mantissa
}

// MinExponent is the exponent of the smallest normal value.
func (f Format) MinExponent() int {
	if f.IsFP32() {
		return -126
	}
	return 1 - f.Bias
}

// MinSubnormal is the smallest value above zero.
func (f Format) MinSubnormal() float32 {
	if f.IsFP32() {
		return math.SmallestNonzeroFloat32
	}
	return float32(math.Ldexp(1, f.MinExponent()-f.Mantissa))
}

// Round gives the value of the format nearest to x, the even one of two, as a
// float32. Subnormals are rounded like all others.
func (f Format) Round(x float32) float32 {
	if f.IsFP32() || x != x {
		return x
	}
	magnitude := math.Abs(float64(x))
	y := magnitude
	if !math.IsInf(y, 1) {
		_, exponent := math.Frexp(magnitude) // in [1/2, 1)·2^exponent
		unit := math.Ldexp(1, max(exponent-1, f.MinExponent())-f.Mantissa)
		y = math.RoundToEven(magnitude/unit) * unit // exact: at most 25 bits
	}
	if y > float64(f.Max) {
		y = f.overflow()
	}
	if y == 0 && f.Specials == FNUZ {
		return 0
	}
	return float32(math.Copysign(y, float64(x)))
}

// overflow is what values beyond Max become.
func (f Format) overflow() float64 {
	switch {
	case f.Saturate:
		return float64(f.Max)
	case f.Specials == IEEE:
		return math.Inf(1)
	}
	return math.NaN()
}

// Decode gives the value of a code of a format with at most 16 bits.
func (f Format) Decode(code uint16) float32 {
	f.checkWidth()
	sign := code >> (f.Bits() - 1) & 1
	exponent := int(code>>f.Mantissa) & (1<<f.Exponent - 1)
	fraction := float64(code & (1<<f.Mantissa - 1))
	if f.isNaN(code) {
		return float32(math.NaN())
	}
	y := math.Ldexp(fraction, f.MinExponent()-f.Mantissa)
	if exponent > 0 {
		y = math.Ldexp(fraction+math.Ldexp(1, f.Mantissa), exponent-f.Bias-f.Mantissa)
	}
	if f.Specials == IEEE && exponent == 1<<f.Exponent-1 {
		y = math.Inf(1)
	}
	if sign == 1 {
		y = -y
	}
	if y == 0 && sign == 1 {
		y = math.Copysign(0, -1)
	}
	return float32(y)
}

// isNaN says whether a code stands for NaN.
func (f Format) isNaN(code uint16) bool {
	magnitude := code & (1<<(f.Bits()-1) - 1)
	top := uint16(1<<f.Exponent-1) << f.Mantissa
	switch f.Specials {
	case FNUZ:
		return code == 1<<(f.Bits()-1)
	case NaNOnly:
		return magnitude == 1<<(f.Bits()-1)-1
	}
	return magnitude > top
}

// Encode rounds x and gives its code; NaN has the code with the highest bit of the
// fraction set, or the only one.
func (f Format) Encode(x float32) uint16 {
	f.checkWidth()
	y := f.Round(x)
	if y != y {
		return f.nan()
	}
	sign := uint16(0)
	if math.Signbit(float64(y)) {
		sign = 1 << (f.Bits() - 1)
	}
	magnitude := math.Abs(float64(y))
	if math.IsInf(magnitude, 1) {
		return sign | (1<<f.Exponent-1)<<f.Mantissa
	}
	_, exponent := math.Frexp(magnitude)
	exponent = max(exponent-1, f.MinExponent())
	steps := uint16(math.Ldexp(magnitude, f.Mantissa-exponent)) // with the hidden bit, if normal
	if steps < 1<<f.Mantissa {
		return sign | steps
	}
	return sign | uint16(exponent+f.Bias)<<f.Mantissa | steps&(1<<f.Mantissa-1)
}

func (f Format) nan() uint16 {
	switch f.Specials {
	case FNUZ:
		return 1 << (f.Bits() - 1)
	case NaNOnly:
		return 1<<(f.Bits()-1) - 1
	}
	return (1<<f.Exponent-1)<<f.Mantissa | 1<<(f.Mantissa-1)
}

func (f Format) checkWidth() {
	if f.Bits() > 16 {
		panic("numeric: " + f.String() + " has no code of 16 bits")
	}
}

func fromBits(u uint32) float32 { return math.Float32frombits(u) }

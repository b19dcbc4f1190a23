package numeric

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

// Every profile says what it is and where it is from, has a name of its own, and is called
// an emulation unless it is fp32.
func TestProfilesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Profiles() {
		if p.Description == "" || seen[p.Name] || p.Source == "" && !p.Plain() {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if got := p.String(); got != "emulated "+p.Name && !(p.Name == "fp32" && got == "fp32") {
			t.Errorf("%s is announced as %q", p.Name, got)
		}
		found, err := Find(p.Name)
		if err != nil || found.Name != p.Name {
			t.Errorf("%s: %v, %v", p.Name, found, err)
		}
		if p.Plain() != (p.Name == "fp32") {
			t.Errorf("%s is fp32: %v", p.Name, p.Plain())
		}
		for o, r := range p.Rules {
			if r.Scaling != Unscaled && (r.Input.Bits() != 8 || r.Grads.Bits() != 8) {
				t.Errorf("%s, %s: %s in %s", p.Name, Operator(o), r.Scaling, r.Input)
			}
			if strings.Contains(p.Name, "ascend") || strings.Contains(p.Name, "ppu") {
				if r.Sum.Kind != Plain || p.Unknown == "" {
					t.Errorf("%s: sums by %s, which nobody has published", p.Name, r.Sum)
				}
			}
		}
	}
	if p, err := Find(""); err != nil || !p.Plain() {
		t.Errorf("no name is %v, %v", p, err)
	}
	var nobody *Profile
	if !nobody.Plain() || nobody.String() != "fp32" {
		t.Error("no profile is not fp32")
	}
}

func TestUnknownProfile(t *testing.T) {
	_, err := Find("bf15")
	var bad *fault.Input
	if !errors.As(err, &bad) || bad.Value != "bf15" || !strings.Contains(bad.Next, "fp32, bf16, fp16") || !strings.Contains(bad.Next, "ascend-910b2") {
		t.Errorf("%v", err)
	}
}

// The largest magnitude of a block fits without saturation, and with half the scale it
// would not.
func TestScaleIsTheSmallestThatFits(t *testing.T) {
	for _, f := range []Format{E4M3(), E5M2(), E4M3FNUZ(), E5M2FNUZ()} {
		for e := -80; e <= 80; e++ {
			for _, m := range []float64{1, 1.25, 1.5, 1.75, 1.7500001, 1.875, 1.9999999} {
				amax := float32(math.Ldexp(m, e))
				scale, inverse := f.Scale(amax)
				if amax/scale > f.Max || amax/(scale/2) <= f.Max || scale*inverse != 1 {
					t.Fatalf("%s: %v has scale %v and inverse %v", f, amax, scale, inverse)
				}
			}
		}
		for _, x := range []float32{float32(math.Inf(1)), float32(math.NaN())} {
			if scale, _ := f.Scale(x); scale == scale {
				t.Errorf("%s: %v has scale %v", f, x, scale)
			}
		}
		if scale, _ := f.Scale(0); scale != 1 {
			t.Errorf("%s: zeros have scale %v", f, scale)
		}
		if scale, inverse := f.Scale(math.MaxFloat32); !finite32(scale) || inverse == 0 {
			t.Errorf("%s: the largest float32 has scale %v", f, scale)
		}
	}
}

// A value that fp8 represents times a power of two comes back exactly.
func TestScaledRoundingIsExact(t *testing.T) {
	for _, f := range []Format{E4M3(), E5M2(), E4M3FNUZ(), E5M2FNUZ()} {
		for c := range 1 << 8 {
			x := f.Decode(uint16(c))
			if x != x || math.IsInf(float64(x), 0) {
				continue
			}
			for _, e := range []int{-60, -3, 0, 5, 70} {
				scale := float32(math.Ldexp(1, e))
				if got := f.RoundScaled(x*scale, scale, 1/scale); got != x*scale {
					t.Fatalf("%s: %v at scale %v is %v", f, x, scale, got)
				}
			}
		}
	}
}

// As torch.amp.GradScaler: 65536, half after an overflow, double after 2000 good steps.
func TestLossScale(t *testing.T) {
	s := NewLossScale()
	for step := range 1999 {
		s = s.Next(false)
		if s.Value != 65536 || s.Check() != nil {
			t.Fatalf("step %d: %+v, %v", step, s, s.Check())
		}
	}
	if s = s.Next(false); s != (LossScale{131072, 0}) {
		t.Fatalf("after 2000 good steps: %+v", s)
	}
	s = s.Next(false)
	if s = s.Next(true); s != (LossScale{65536, 0}) {
		t.Fatalf("after an overflow: %+v", s)
	}
	for range 1000 {
		s = s.Next(true)
	}
	if s.Value <= 0 || s.Check() != nil {
		t.Errorf("after overflows without end: %+v, %v", s, s.Check())
	}
	for range 2000 * 300 {
		s = s.Next(false)
	}
	if math.IsInf(float64(s.Value), 0) || s.Check() != nil {
		t.Errorf("after good steps without end: %+v, %v", s, s.Check())
	}
	for _, bad := range []LossScale{{}, {Value: 3}, {Value: -2}, {Value: float32(math.NaN())}, {Value: float32(math.Inf(1))}, {Value: 2, Good: -1}, {Value: 2, Good: 2000}} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

package outer

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// B13: a shared weight is 1.0 and an island ends at 0.8. With the sign of the
// pseudo-gradient flipped the weight became 1.2. Outer SGD at rate 1 without
// momentum gives 0.8; rate 0.7 with Nesterov momentum 0.9 gives 0.734 in the
// first round (0.2 + 0.9 × 0.2 = 0.38, times 0.7 is 0.266).
func TestStepGoesTowardsTheLearner(t *testing.T) {
	for _, tt := range []struct {
		step Step
		want float32
	}{
		{Step{Rate: 1, Momentum: 0}, 0.8},
		{Step{Rate: 0.7, Momentum: 0.9}, 0.734},
	} {
		theta, momentum, delta := []float32{1}, []float32{0}, make([]float32, 1)
		PseudoGradient(delta, theta, []float32{0.8})
		tt.step.Apply(theta, momentum, delta, 1)
		if math.Abs(float64(theta[0]-tt.want)) > 1e-7 {
			t.Errorf("%+v: weight = %v, want %v", tt.step, theta[0], tt.want)
		}
	}
}

// A2: three islands, a round with 0 inner steps (or rate 0), outer momentum 0.
// Elsewhere averages of unrelated starts passed unseen. Every pseudo-gradient must
// be exactly 0, and the weights keep their bits.
func TestARoundWithoutTrainingMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 6
		theta := drawFloats(t, "theta", n)
		before := append([]float32(nil), theta...)
		parts := make([]Part, 3)
		for i := range parts {
			learner := append([]float32(nil), theta...)
			parts[i] = Part{Delta: make([]float32, n), Tokens: []int64{int64(100 * i)}}
			PseudoGradient(parts[i].Delta, theta, learner)
			for _, d := range parts[i].Delta {
				if d != 0 {
					t.Fatalf("island %d: pseudo-gradient %v", i, parts[i].Delta)
				}
			}
		}
		mean := make([]float32, n)
		Mean(mean, []int{n}, parts)
		Step{Rate: 0.7, Momentum: 0}.Apply(theta, make([]float32, n), mean, 1)
		if !sameBits(theta, before) {
			t.Fatalf("weights %v, before %v", theta, before)
		}
	})
}

func TestApplyAgreesWithTheSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 5
		step := Step{
			Rate:     rapid.Float64Range(0.1, 1.5).Draw(t, "rate"),
			Momentum: rapid.SampledFrom([]float64{0, 0.5, 0.9}).Draw(t, "momentum"),
		}
		theta, momentum := drawFloats(t, "theta", n), drawFloats(t, "b", n)
		slowTheta, slowMomentum := append([]float32(nil), theta...), append([]float32(nil), momentum...)
		for range 3 {
			delta := drawFloats(t, "delta", n)
			share := rapid.Float64Range(0.01, 1).Draw(t, "share")
			step.Apply(theta, momentum, delta, share)
			slowApply(step, slowTheta, slowMomentum, delta, share)
		}
		// Signs of zeros are not compared: arbitrary precision has its own rule for them.
		for i := range theta {
			if theta[i] != slowTheta[i] || momentum[i] != slowMomentum[i] {
				t.Fatalf("element %d: Θ %v b %v, slow twin %v %v", i, theta[i], momentum[i], slowTheta[i], slowMomentum[i])
			}
		}
	})
}

// Three rounds at the pilot's settings, pinned to the bit. Exact arithmetic gives
// Θ = 0.832, 0.7305, 0.68183… for the first weight.
func TestApplyGolden(t *testing.T) {
	step := Step{Rate: 0.7, Momentum: 0.5}
	theta, momentum := []float32{1, -0.25}, []float32{0, 0}
	rounds := []struct {
		delta []float32
		share float64
		theta [2]uint32
		b     [2]uint32
	}{
		{[]float32{0.16, 0.003}, 1, [2]uint32{0x3f54fdf4, 0xbe819ce0}, [2]uint32{0x3e23d70a, 0x3b449ba6}},
		{[]float32{0.07, -0.011}, 1, [2]uint32{0x3f3b020c, 0xbe77ef9d}, [2]uint32{0x3e19999a, 0xbc1ba5e3}},
		{[]float32{0.02, 0.013}, 1. / 3, [2]uint32{0x3f2e8c75, 0xbe79e48e}, [2]uint32{0x3e00bd34, 0xbb522988}},
	}
	for i, r := range rounds {
		step.Apply(theta, momentum, r.delta, r.share)
		gotTheta := [2]uint32{math.Float32bits(theta[0]), math.Float32bits(theta[1])}
		gotB := [2]uint32{math.Float32bits(momentum[0]), math.Float32bits(momentum[1])}
		if gotTheta != r.theta || gotB != r.b {
			t.Errorf("round %d: Θ %#08x b %#08x, want %#08x %#08x (%v %v)", i, gotTheta, gotB, r.theta, r.b, theta, momentum)
		}
	}
}

func TestPowerAgreesWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, exponent := rapid.Float64Range(0.01, 1).Draw(t, "base"), rapid.Float64Range(0, 1).Draw(t, "exponent")
		got, want := power(base, exponent), math.Pow(base, exponent)
		if math.Abs(got-want) > 1e-14*want {
			t.Fatalf("power(%v, %v) = %v, want %v", base, exponent, got, want)
		}
	})
}

// Whole steps use the momentum factor as it was set, and no share leaves b alone.
func TestPowerAtTheEndsOfItsRange(t *testing.T) {
	for _, base := range []float64{0, 0.5, 0.9} {
		if got := power(base, 1); got != base {
			t.Errorf("power(%v, 1) = %v", base, got)
		}
		if got := power(base, 0); got != 1 {
			t.Errorf("power(%v, 0) = %v", base, got)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	const n = 1 << 20
	theta, momentum, delta := make([]float32, n), make([]float32, n), make([]float32, n)
	b.SetBytes(4 * n)
	for b.Loop() {
		Step{Rate: 0.7, Momentum: 0.5}.Apply(theta, momentum, delta, 0.5)
	}
}

func BenchmarkMeanOfTwo(b *testing.B) {
	const n = 1 << 20
	dst := make([]float32, n)
	parts := []Part{
		{Delta: make([]float32, n), Tokens: []int64{1}},
		{Delta: make([]float32, n), Tokens: []int64{2}},
	}
	b.SetBytes(2 * 4 * n)
	for b.Loop() {
		Mean(dst, []int{n}, parts)
	}
}

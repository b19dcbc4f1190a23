package outer

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// D5: one island at rate 1 without momentum. What it trains between send and
// adoption stays, to the bit, whatever its weights are.
func TestALoneIslandKeepsItsBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 6
		anchor, atSend := drawFloats(t, "anchor", n), drawFloats(t, "at send", n)
		later := drawFloats(t, "at adoption", n)
		before := append([]float32(nil), later...)

		delta, sent, merged := make([]float32, n), make([]float32, n), make([]float32, n)
		PseudoGradient(delta, anchor, atSend)
		Sent(sent, anchor, delta)

		theta, momentum := append([]float32(nil), anchor...), drawFloats(t, "old momentum", n)
		Mean(merged, []int{n}, []Part{{Delta: delta, Tokens: []int64{64}}})
		share := Share(nil, []string{"lone"}, []Credit{{"lone", 64}})
		Step{Rate: 1, Momentum: 0}.Apply(theta, momentum, merged, share)

		Rebase(later, theta, sent)
		if !sameBits(later, before) {
			t.Fatalf("weights %v, before the exchange %v", later, before)
		}
	})
}

func TestRebaseKeepsWorkDoneSinceTheSend(t *testing.T) {
	// Sent at 3, trained on to 3.5, and the fleet says 5: 5.5.
	theta := []float32{3.5}
	Rebase(theta, []float32{5}, []float32{3})
	if theta[0] != 5.5 {
		t.Errorf("theta = %v, want 5.5", theta[0])
	}
}

func TestRebaseKeepsTheSignOfZero(t *testing.T) {
	negativeZero := float32(math.Copysign(0, -1))
	theta := []float32{negativeZero, 0}
	Rebase(theta, []float32{1, negativeZero}, []float32{1, 0})
	if !sameBits(theta, []float32{negativeZero, 0}) {
		t.Errorf("theta = %v", theta)
	}
}

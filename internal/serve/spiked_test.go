package serve

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/wire"
)

// Danger: trainers that tell no gradient norm are taken for such whose gradients are not
// finite, and two of them roll the run back.
func TestSpikedIsFinite(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		spike *wire.Spike
		want  bool
	}{
		{&wire.Spike{Loss: 9, GradientNorm: 2}, true},
		{&wire.Spike{Loss: 9, GradientNorm: nan}, false},
		{&wire.Spike{Loss: 9, GradientNorm: nan, NormUnknown: true}, true},
		{&wire.Spike{Loss: nan, GradientNorm: nan, NormUnknown: true}, false},
	} {
		if got := spikedOf(1, c.spike); got.Finite != c.want {
			t.Errorf("%v: finite %v", c.spike, got.Finite)
		}
	}
}

package oracle

import (
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

func check(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// TestTwinAgrees compares every loss, intermediate tensor and gradient of the
// float64 twin, and its training, with the oracle.
func TestTwinAgrees(t *testing.T) {
	for _, a := range ask(t).right {
		t.Run(a.name, func(t *testing.T) {
			m, err := a.measure(twin)
			if err != nil {
				t.Fatal(err)
			}
			check(t, m.losses.over(twinGradient))
			check(t, m.tensors.over(twinGradient))
			check(t, m.gradients.over(twinGradient))
			check(t, m.short.over(twinShortTrace))
			check(t, m.whole.over(twinFullTrace))
			check(t, m.weights.over(twinFullTrace))
			check(t, m.state.over(twinGradient))
			if len(m.tensors) < 4*a.cfg.Layers {
				t.Errorf("only %d intermediate tensors were compared", len(m.tensors))
			}
		})
	}
}

// TestEngineAgrees compares losses, gradients and training on every kernel set.
func TestEngineAgrees(t *testing.T) {
	for _, a := range ask(t).right {
		for _, set := range kernel.Available() {
			t.Run(a.name+"/"+set, func(t *testing.T) {
				m, err := a.measure(set)
				if err != nil {
					t.Fatal(err)
				}
				check(t, m.losses.over(fp32Loss))
				check(t, m.gradients.over(fp32Gradient))
				check(t, m.short.over(fp32ShortTrace))
				check(t, m.state.over(fp32Loss))
				if a.subject.nudged > 0 && !(m.gap <= m.spread) {
					t.Errorf("the loss at the end is off by %.2g; the oracle's own runs differ by %.2g", m.gap, m.spread)
				}
			})
		}
	}
}

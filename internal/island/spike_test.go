package island

import (
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// calm is a learner with router state whose window is full of losses that make the next
// step a spike.
func calm(t *testing.T) *Learner {
	run, data, _ := tiny(t, func(r *runfile.Run) {
		withState(r)
		r.Spike.Window = 4
	})
	l := seeded(t, run, data)
	l.Lease(0, 16)
	steps(t, l, 4)
	l.rule.Restore([]float64{1, 1, 1, 1})
	return l
}

// A step that is withheld moves neither weights nor moments, router state, bias correction
// or expert counts; its samples are used and count as withheld, its loss is in the window.
func TestWithheldStepMovesNothing(t *testing.T) {
	l := calm(t)
	params, experts, applied, tokens := slices.Clone(l.Params()), slices.Clone(l.expert), engineOf(l).adam.Steps(), l.ownTokens()
	m, v := engineOf(l).adam.Moments()
	m, v = slices.Clone(m), slices.Clone(v)
	l.Lease(16, 20)
	s := steps(t, l, 1)[0]
	if d := s.Decision; s.Applied || d.Verdict != spike.Withhold || !d.Finite || d.Median != 1 || d.Bound != 1.1 || s.From != 16 || s.To != 20 {
		t.Fatalf("%+v", s)
	}
	m2, v2 := engineOf(l).adam.Moments()
	if !sameBits(l.Params(), params) || !sameBits(m, m2) || !sameBits(v, v2) || engineOf(l).adam.Steps() != applied || !slices.Equal(l.expert, experts) {
		t.Error("something moved")
	}
	if l.position != 20 || l.withheld != 4 || l.step != 5 || l.skipped != 1 || l.ownTokens() != tokens {
		t.Errorf("position %d, withheld %d, step %d, skipped %d, %d tokens", l.position, l.withheld, l.step, l.skipped, l.ownTokens())
	}
	if losses := l.rule.Losses(); losses[3] != s.Loss {
		t.Errorf("the window is %v, the loss was %v", losses, s.Loss)
	}
}

// The second try is the same step at half the rate: as if the schedule had said so.
func TestSecondTryAtHalfRate(t *testing.T) {
	l, twin := calm(t), calm(t)
	twin.rule.Restore(nil)
	twin.schedule.PeakRate /= 2
	twin.schedule.FinalRate /= 2
	l.leases.add(span{40, 44, true})
	twin.Lease(40, 44)
	s, want := steps(t, l, 1)[0], steps(t, twin, 1)[0]
	if s.Decision.Verdict != spike.HalfRate || !s.Applied || !s.Retry || s.Rate != want.Rate {
		t.Fatalf("%+v, want rate %v", s, want.Rate)
	}
	if !sameBits(l.Params(), twin.Params()) || l.withheld != 0 {
		t.Error("another step than at half the rate")
	}
}

// A second try that is not finite is skipped.
func TestSecondTryThatIsNotFinite(t *testing.T) {
	l := calm(t)
	engineOf(l).spoil = func(samples []uint64, grads []float32) {
		if slices.Contains(samples, 41) {
			grads[7] = float32(math.Inf(1))
		}
	}
	l.leases.add(span{40, 44, true})
	l.Lease(44, 48)
	all := steps(t, l, 2)
	if s := all[0]; s.Decision.Verdict != spike.Skip || s.Applied || !math.IsNaN(s.Loss) {
		t.Errorf("%+v", s)
	}
	if s := all[1]; s.Decision.Verdict != spike.Withhold || s.Retry {
		t.Errorf("%+v", s)
	}
}

// A contribution says how many samples of its span were withheld, and counts the others.
// When all were there is nothing to send, unless the weights themselves are broken.
func TestContributionOfAWithheldStep(t *testing.T) {
	l := calm(t)
	l.Lease(16, 20)
	steps(t, l, 1)
	fl, err := l.contribute(0, false)
	if err != nil {
		t.Fatal(err)
	}
	if c := fl.message; c.FromPosition != 0 || c.ToPosition != 20 || c.Withheld != 4 || c.Tokens != 16*16 {
		t.Errorf("%v", c)
	}
	f := l.fragments[0]
	f.flight = nil
	l.rule.Restore([]float64{1, 1, 1, 1})
	l.Lease(20, 24)
	steps(t, l, 1)
	if l.dirty(f) || !l.dirty(l.fragments[1]) {
		t.Errorf("dirty: %v and %v", l.dirty(f), l.dirty(l.fragments[1]))
	}
	at := f.Tensors[0].Offset
	l.Params()[at] = float32(math.NaN())
	if !l.dirty(f) {
		t.Error("broken weights are not sent to be refused")
	}
}

// The window, and what was withheld, are part of the saved state: a restored learner
// decides as the one that went on, to the bit.
func TestRestoredRuleGoesOn(t *testing.T) {
	l := calm(t)
	l.Lease(16, 20)
	steps(t, l, 1)
	st := store.NewMemory()
	c, err := captureNow(l)
	if err != nil {
		t.Fatal(err)
	}
	s := &wire.IslandState{Object: stateName, Position: 20, Committed: 0, Withheld: 4, Keep: []bool{true, true, true, true}}
	rewrite(t, c, st, s)
	back := reborn(t, l.run, engineOf(l).data, l)
	if err := restoreNow(t, back, st, s); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(back.rule.Losses(), l.rule.Losses()) || back.withheld != 4 || back.ownTokens() != l.ownTokens() {
		t.Errorf("window %v, withheld %d", back.rule.Losses(), back.withheld)
	}
	l.Lease(20, 60)
	back.Lease(20, 60)
	if a, b := steps(t, l, 10), steps(t, back, 10); !slices.Equal(a, b) || !sameBits(l.Params(), back.Params()) {
		t.Errorf("it went on with\n%+v, want\n%+v", b, a)
	}
}

// Danger: a stream breaks and takes the word of a spike along; then a contribution that
// spans the step comes, and its samples count as trained. Every session begins with all
// spikes, before anything else that is sent.
func TestSpikesAreToldFirst(t *testing.T) {
	s := play(t, nil)
	for i := range s.theta[0] {
		s.theta[0][i] = float32(math.NaN())
	}
	s.seed() // no step is finite from here on, and the weights are contributed to be refused
	s.lease(0, 0, 4000)
	first := expect(s, (*wire.FromLearner).GetSpike)
	if first.Step == 0 || first.Samples != 4 || first.Verdict != wire.Spiked_WITHHELD || !math.IsNaN(first.GradientNorm) || !math.IsNaN(first.Bound) {
		t.Errorf("%v", first)
	}
	s.upTo("the next one", func(m transport.Up) bool { return m.GetSpike().GetStep() == first.Step+1 })
	s.call(0)
	s.contribution()
	s.link.cut()
	s.hello()
	told := false
	s.upTo("the contribution once more", func(m transport.Up) bool {
		told = told || m.GetSpike().GetStep() == first.Step && m.GetSpike().GetPosition() == first.Position
		return m.GetContribution() != nil
	})
	if !told {
		t.Error("the contribution has overtaken the spike")
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// A norm that the trainer does not tell says nothing against its step; it is not taken for
// one that is not finite.
func TestSpikeOfAnUnknownNorm(t *testing.T) {
	for _, c := range []struct {
		norm, want float64
		unknown    bool
	}{{unknown, math.NaN(), true}, {math.Inf(1), math.NaN(), false}, {3, 3, false}} {
		s := spikeOf(1, StepStats{Loss: 9, GradientNorm: c.norm})
		if s.NormUnknown != c.unknown || math.Float64bits(s.GradientNorm) != math.Float64bits(c.want) {
			t.Errorf("norm %v: %v", c.norm, s)
		}
	}
}

package spike

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// slowMedian is the definition.
func slowMedian(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	if n := len(s); n%2 == 0 {
		return s[n/2-1]/2 + s[n/2]/2
	}
	return s[len(s)/2]/2 + s[len(s)/2]/2
}

// slowJudge is the rule as DESIGN words it, from all losses so far.
func slowJudge(cfg Config, losses []float64, loss, norm float64, retry bool) Verdict {
	var window []float64
	for _, x := range slices.Backward(losses) {
		if len(window) < cfg.Window && !math.IsNaN(x) && !math.IsInf(x, 0) {
			window = append(window, x)
		}
	}
	finite := !math.IsNaN(loss+norm) && !math.IsInf(loss+norm, 0)
	spike := !finite
	if finite && len(window) == cfg.Window && cfg.Factor > 0 {
		median := slowMedian(window)
		var deviations []float64
		for _, x := range window {
			deviations = append(deviations, math.Abs(x-median))
		}
		spike = loss > median+cfg.Factor*1.4826*slowMedian(deviations) && loss > median+cfg.FloorNats
	}
	switch {
	case !spike:
		return Apply
	case !retry:
		return Withhold
	case finite:
		return HalfRate
	default:
		return Skip
	}
}

func drawLoss(t *rapid.T) float64 {
	if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
		return rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 50}).Draw(t, "odd")
	}
	return float64(rapid.IntRange(0, 60).Draw(t, "loss")) / 8 // coarse: ties are common
}

// The fast rule agrees with the slow one, whatever came before; a rule that is saved
// and restored in between goes on as if nothing had been.
func TestRuleAgreesWithItsSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Window: rapid.IntRange(2, 9).Draw(t, "window"),
			Factor: rapid.SampledFrom([]float64{0, 1, 6}).Draw(t, "factor"), FloorNats: rapid.SampledFrom([]float64{0, 0.1, 2}).Draw(t, "floor"),
		}
		r := New(cfg)
		var losses []float64
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			loss, norm := drawLoss(t), rapid.SampledFrom([]float64{1, 1, 1, 1, math.NaN(), math.Inf(1)}).Draw(t, "norm")
			retry := rapid.Bool().Draw(t, "retry")
			d := r.Judge(loss, norm, retry)
			if want := slowJudge(cfg, losses, loss, norm, retry); d.Verdict != want {
				t.Fatalf("loss %v, norm %v after %v: %+v, want %q", loss, norm, losses, d, want)
			}
			if d.Spike != (d.Verdict != Apply) || d.Spike != (d.Reason != "") {
				t.Fatalf("%+v", d)
			}
			r.Add(loss)
			losses = append(losses, loss)
			if rapid.IntRange(0, 4).Draw(t, "save") == 0 {
				saved := r.Losses()
				r = New(cfg)
				r.Restore(saved)
			}
		}
	})
}

func TestMedianAndSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		var all []float64
		most := rapid.IntRange(1, 12).Draw(t, "most")
		for _, x := range rapid.SliceOfN(rapid.Float64Range(-1e300, 1e300), 1, 40).Draw(t, "losses") {
			w.add(x, most)
			all = append(all, x)
			last := all[max(0, len(all)-most):]
			if !slices.Equal(w.order, last) || w.median() != slowMedian(last) {
				t.Fatalf("%v: median %v", last, w.median())
			}
			var deviations []float64
			for _, x := range last {
				deviations = append(deviations, math.Abs(x-w.median()))
			}
			if got, want := w.spread(w.median()), slowMedian(deviations); got != want {
				t.Fatalf("%v: spread %v, want %v", last, got, want)
			}
		}
	})
}

// The case of DESIGN section 9 with its numbers: 128 losses of 2.0 ± 0.05.
func TestDefaultRule(t *testing.T) {
	r := New(Default())
	for i := range 127 {
		r.Add(2 + 0.05*float64(i%3-1))
	}
	if d := r.Judge(50, 1, false); d.Spike || d.Judged {
		t.Errorf("127 losses are judged by: %+v", d)
	}
	r.Add(2)
	bound := 2 + 6*1.4826*0.05
	for _, c := range []struct {
		loss, norm float64
		retry      bool
		want       Verdict
	}{
		{bound - 1e-3, 1, false, Apply}, {bound + 1e-3, 1, false, Withhold}, {bound + 1e-3, 1, true, HalfRate}, {0.5, 1, false, Apply},
		{2, math.NaN(), false, Withhold}, {2, math.Inf(1), true, Skip}, {math.NaN(), 1, true, Skip},
	} {
		if d := r.Judge(c.loss, c.norm, c.retry); d.Verdict != c.want || math.Abs(d.Bound-bound) > 1e-12 {
			t.Errorf("%+v: %+v", c, d)
		}
	}
	calm := New(Default())
	for range 128 {
		calm.Add(2)
	}
	if calm.Judge(2.09, 1, false).Spike || !calm.Judge(2.11, 1, false).Spike {
		t.Error("without any spread the floor of 0.1 nat decides")
	}
}

// Losses that stay high are no spikes for ever: the median follows.
func TestRuleFollowsALevel(t *testing.T) {
	r := New(Default())
	for range 128 {
		r.Add(2)
	}
	spikes := 0
	for range 128 {
		if r.Judge(4, 1, false).Spike {
			spikes++
		}
		r.Add(4)
	}
	if spikes != 64 && spikes != 65 {
		t.Errorf("%d of 128 steps of the new level are spikes", spikes)
	}
}

func TestConfigIsValidated(t *testing.T) {
	for _, c := range []Config{{1, 6, 0.1}, {MaxWindow + 1, 6, 0.1}, {128, -1, 0.1}, {128, math.NaN(), 0.1}, {128, 6, math.Inf(1)}, {128, 6, -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

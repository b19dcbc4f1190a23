package ledger

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func steady(seconds float64, steps int) []float64 { return slices.Repeat([]float64{seconds}, steps) }

// TestC11Straggler: wall time is equal for all who wait for each other, so the straggler
// is found by busy seconds, and one long step is no straggler.
func TestC11Straggler(t *testing.T) {
	second := steady(1, 20)
	second[7] = 5
	got := Judge([]Pace{
		{"0", "cpu", steady(1, 20)}, {"1", "cpu", second}, {"2", "cpu", steady(1, 20)}, {"3", "cpu", steady(1.6, 20)},
	})
	for i, j := range got {
		if j.Straggler != (i == 3) {
			t.Errorf("worker %d: %+v", i, j)
		}
		if (j.Stalls == 1) != (i == 1) {
			t.Errorf("worker %d has %d stalls", i, j.Stalls)
		}
	}
	if ratio, ok := got[3].Ratio.Get(); !ok || math.Abs(ratio-1.6) > 1e-9 {
		t.Errorf("ratio %v", got[3].Ratio)
	}
	if why := got[3].Why(); why != "slow: a step takes it 1.6 s, 1.60 times the 1 s of its kind" {
		t.Errorf("%q", why)
	}
	if why := got[1].Why(); why != "stalled 1 times, at most 5 s in one step" {
		t.Errorf("%q", why)
	}
}

// TestC12SlowerKind: an island of slower chips is no straggler, nor is one that is alone
// of its kind or has hardly begun.
func TestC12SlowerKind(t *testing.T) {
	for _, j := range Judge([]Pace{
		{"a1", "fast", steady(0.5, 20)}, {"a2", "fast", steady(0.5, 20)}, {"b1", "slow", steady(1.5, 20)}, {"b2", "slow", steady(1.5, 20)},
		{"c", "alone", steady(9, 20)}, {"d", "fast", steady(9, 2)},
	}) {
		if j.Straggler || j.Why() != "" {
			t.Errorf("%+v: %s", j, j.Why())
		}
		if _, known := j.Ratio.Get(); known != (j.Name[0] == 'a' || j.Name[0] == 'b') {
			t.Errorf("ratio of %s is %v", j.Name, j.Ratio)
		}
	}
}

// The order of workers, and what other kinds do, change nothing; the fastest of a kind is
// never flagged.
func TestJudgeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Pace {
			return Pace{
				rapid.StringMatching(`[a-z]{8}`).Draw(t, "name"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "kind"),
				rapid.SliceOfN(rapid.Float64Range(0.01, 100), 0, 40).Draw(t, "busy"),
			}
		}), 0, 8).Draw(t, "workers")
		all := Judge(paces)
		var xs []Pace
		var want []Judgement
		fastest := math.Inf(1)
		for i, p := range paces {
			if p.Kind == "x" {
				xs, want = append([]Pace{p}, xs...), append([]Judgement{all[i]}, want...)
				if busy, ok := all[i].Busy.Get(); ok {
					fastest = min(fastest, busy)
				}
			}
		}
		if got := Judge(xs); !slices.Equal(got, want) {
			t.Fatalf("alone %+v, among others %+v", got, want)
		}
		for _, j := range want {
			if busy, ok := j.Busy.Get(); ok && busy == fastest && j.Straggler {
				t.Fatalf("the fastest is flagged: %+v", j)
			}
			if strings.Contains(j.Why(), "NaN") {
				t.Fatal(j.Why())
			}
		}
	})
}

package ledger

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// steady is so many steps of 100 tokens.
func steady(seconds float64, steps int) []Worked {
	return slices.Repeat([]Worked{{seconds, 100}}, steps)
}

// TestC11Straggler: wall time is equal for all who wait for each other, so the straggler
// is found by busy seconds, and one long step is no straggler.
func TestC11Straggler(t *testing.T) {
	second := steady(1, 20)
	second[7].Busy = 5
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
	if why := got[3].Why(); why != "slow: a step takes it 1.6 s, 1.60 times the 1 s of its kind for as many tokens" {
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

// Case C12, where one kind trains its own data: whoever makes steps of twice the tokens takes
// twice as long for one, and is not slow; who takes as long for half of them is. Steps of
// unlike size are no stalls.
func TestC12StepsOfUnlikeSize(t *testing.T) {
	sized := func(seconds, tokens float64) []Worked { return slices.Repeat([]Worked{{seconds, tokens}}, 20) }
	mixed := sized(1, 100)
	mixed[3], mixed[9] = Worked{6, 600}, Worked{7, 700}
	got := Judge([]Pace{
		{"usual", "npu x8", sized(1, 100)}, {"large", "npu x8", sized(2, 200)}, {"mixed", "npu x8", mixed}, {"late", "npu x8", sized(1, 50)},
	})
	for i, j := range got {
		if j.Straggler != (i == 3) || j.Stalls != 0 {
			t.Errorf("%+v", j)
		}
	}
	if got[1].Busy.Text(1) != "2.0" || got[1].Kind.Text(1) != "2.0" || got[1].Ratio.Text(1) != "1.0" {
		t.Errorf("%+v", got[1])
	}
	if why := got[3].Why(); why != "slow: a step takes it 1 s, 2.00 times the 0.5 s of its kind for as many tokens" {
		t.Errorf("%q", why)
	}
}

// The order of workers, and what other kinds do, change nothing; the fastest of a kind is
// never flagged.
func TestJudgeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Pace {
			return Pace{
				rapid.StringMatching(`[a-z]{8}`).Draw(t, "name"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "kind"),
				rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Worked {
					return Worked{rapid.Float64Range(0.01, 100).Draw(t, "busy"), float64(rapid.IntRange(1, 1000).Draw(t, "tokens"))}
				}), 0, 40).Draw(t, "steps"),
			}
		}), 0, 8).Draw(t, "workers")
		all := Judge(paces)
		var xs []Pace
		var want []Judgement
		fastest := math.Inf(1)
		for i, p := range paces {
			if p.Kind == "x" {
				xs, want = append([]Pace{p}, xs...), append([]Judgement{all[i]}, want...)
				if ratio, ok := all[i].Ratio.Get(); ok {
					fastest = min(fastest, ratio)
				}
			}
		}
		if got := Judge(xs); !slices.Equal(got, want) {
			t.Fatalf("alone %+v, among others %+v", got, want)
		}
		for _, j := range want {
			if ratio, ok := j.Ratio.Get(); ok && ratio == fastest && j.Straggler {
				t.Fatalf("the fastest is flagged: %+v", j)
			}
			if strings.Contains(j.Why(), "NaN") {
				t.Fatal(j.Why())
			}
		}
	})
}

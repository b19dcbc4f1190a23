package plan

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func exactly(x float64) Range { return Range{x, x, x} }

// F14: a whole run and not one step: 954 steps and 1431 s, synchronisation and saving
// in lines of their own.
func TestF14WholeRun(t *testing.T) {
	w := Whole{Tokens: 1e9, Sequence: 2048, Members: []Members{{Name: "a", Count: 1, Chips: 8, Batch: 512, Step: exactly(1.5), Save: exactly(20), Boundary: exactly(3), MTBF: 1e9}}}
	r := w.Run()
	if r.Steps != 954 || r.Lines[0].Name != "training" || r.Lines[0].Mid != 1431 {
		t.Errorf("%d steps, %+v", r.Steps, r.Lines[0])
	}
	w.Period = 100e6
	r = w.Run()
	sum := 0.0
	for i, l := range r.Lines {
		sum += l.Mid
		want := []string{"training", "exchange, at step boundaries", "checkpoints", "interruptions", "restarts"}[i]
		if l.Name != want || l.Mid <= 0 {
			t.Errorf("line %d: %+v, want %s", i, l, want)
		}
	}
	if math.Abs(sum-r.Seconds.Mid) > 1e-6 {
		t.Errorf("lines are %v s, the run %v", sum, r.Seconds.Mid)
	}
	// 954 steps of 512 sequences are 10.004 periods of 100 M tokens, of 3 s each.
	if got, want := r.Lines[1].Mid, 3*954*512*2048/100e6; math.Abs(got-want) > 1e-9 {
		t.Errorf("exchange of %v s, want %v", got, want)
	}
	if got, want := r.Lines[2].Mid, 1431.0*20/3600; math.Abs(got-want) > 1e-9 {
		t.Errorf("checkpoints of %v s, want %v", got, want)
	}
}

// The interval is the best of its bounds: neighbours lose no less.
func TestIntervalBetweenCheckpoints(t *testing.T) {
	lost := func(m Members, every float64) float64 {
		return m.Save.Mid/every + float64(m.Chips)/m.MTBF*every/2
	}
	for _, save := range []float64{0, 0.1, 5, 60, 600} {
		for _, chips := range []int{8, 512, 16384} {
			m := Members{Chips: chips, Save: exactly(save), MTBF: 45600 * 3600}
			every := (Keeping{}).Every(m)
			if every < shortest || every > longest {
				t.Errorf("%d chips, a save of %g s: each %g s", chips, save, every)
			}
			for _, other := range []float64{every * 1.1, every / 1.1} {
				if other >= shortest && other <= longest && lost(m, other) < lost(m, every) {
					t.Errorf("%d chips, a save of %g s: %g s lose more than %g s", chips, save, every, other)
				}
			}
		}
	}
	if got := (Keeping{Checkpoint: 77}).Every(Members{}); got != 77 {
		t.Errorf("a stated interval became %g s", got)
	}
}

// How often chips fail is not made up where nobody knows: the line says so, counts as
// nothing in the middle and at its worst in the range.
func TestUnknownFailuresStayUnknown(t *testing.T) {
	w := Whole{Tokens: 1e12, Sequence: 4096, Members: []Members{
		{Name: "known", Count: 1, Chips: 512, Batch: 512, Step: exactly(10), MTBF: 45600 * 3600},
		{Name: "strange", Count: 1, Chips: 512, Batch: 512, Step: exactly(10)},
	}}
	r := w.Run()
	last := r.Lines[len(r.Lines)-1]
	if last.Name != "restarts" || !strings.Contains(last.Unknown, "strange") || strings.Contains(last.Unknown, "chips of known") || !(last.Low > 0 && last.Low == last.Mid && last.Mid < last.High) {
		t.Errorf("%+v", last)
	}
	lost := 512.0 / (45600 * 3600) * (300 + 600) // nothing is held up by saves: as often as storage takes them
	if got := r.Rates[1] / r.Rates[0]; math.Abs(got-(1+lost)) > 1e-12 {
		t.Errorf("the other is %v as fast, want %v", got, 1+lost)
	}
	if again, restart := (Keeping{}).Lost(Members{Chips: 100}, true); math.Abs(again-100*1800.0/OncePerYear) > 1e-15 || math.Abs(restart-100*600.0/OncePerYear) > 1e-15 {
		t.Errorf("at the worst %v and %v", again, restart)
	}
}

// Nobody waits: islands of unlike speed share the tokens by speed, and a link that carries
// half of what a period asks for halves its island.
func TestIslandsShareTokensBySpeed(t *testing.T) {
	w := Whole{Tokens: 4.5e9, Sequence: 1000, Period: 1e8, Members: []Members{
		{Name: "fast", Count: 2, Chips: 8, Batch: 100, Step: exactly(1)},
		{Name: "slow", Count: 1, Chips: 8, Batch: 100, Step: exactly(2)},
	}}
	r := w.Run()
	if len(r.Lines) != 1+2 || r.Shares[0] != 0.4 || r.Shares[1] != 0.2 || r.Seconds.Mid != 18000 {
		t.Errorf("%+v", r)
	}
	w.Members[1].Transfer = 2 * 1e8 / 225e3 // twice a period, when it trains at half its speed
	r = w.Run()
	if math.Abs(r.Seconds.Mid/(4.5e9/225e3)-1) > 1e-9 || math.Abs(r.Rates[1]/25e3-1) > 1e-9 {
		t.Errorf("%+v", r)
	}
	var linked bool
	for _, l := range r.Lines {
		linked = linked || l.Name == "exchange, beyond what links carry" && math.Abs(l.Mid-(r.Seconds.Mid-18000)) < 1e-6
	}
	if !linked {
		t.Errorf("%+v", r.Lines)
	}
}

// Finish is the earliest moment at which the flows have trained enough.
func TestFinishIsTheEarliest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.Float64Range(1e6, 1e12).Draw(t, "tokens")
		var flows []Flow
		for range rapid.IntRange(1, 5).Draw(t, "flows") {
			flows = append(flows, Flow{rapid.Float64Range(1e3, 1e7).Draw(t, "rate"), rapid.Float64Range(0, 1e5).Draw(t, "held"), rapid.Float64Range(0, 1e7).Draw(t, "link")})
		}
		trained := func(seconds float64) (n float64) {
			for _, f := range flows {
				n += f.tokens(seconds)
			}
			return n
		}
		at := Finish(tokens, flows)
		if trained(at*(1+1e-9)) < tokens || trained(at*(1-1e-9)) > tokens {
			t.Fatalf("%v s: %v tokens of %v", at, trained(at), tokens)
		}
	})
}

package anatomy

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/model"
)

// Rajbhandari et al. (arXiv 1910.02054), figure 1: 7.5 B parameters, 64 ranks, 16 bytes
// a parameter of which 12 are the optimizer's: 120, 31.4, 16.6 and 1.9 GB.
func TestZeROIsTheirFigure(t *testing.T) {
	f := Formats{Weight: 2, Gradient: 2, Master: 4, Moments: 8}
	h := Held{Tensor: 7_500_000_000}
	for zero, want := range []float64{120, 31.4, 16.6, 1.9} {
		got := float64(h.State(Single(), f, zero, Replicas{64, 64}).Total()) / 1e9
		if got < want-0.05 || got > want+0.05 {
			t.Errorf("stage %d: %.2f GB, theirs %g", zero, got, want)
		}
	}
}

func TestStateOfOurModels(t *testing.T) {
	c, err := model.Preset("ling-mini")
	if err != nil {
		t.Fatal(err)
	}
	s, want := Of(c).Parameters().Held().State(Single(), FP32(), 0, Replicas{1, 1}), c.Bytes()
	if s.Weights != want.Weights || s.Gradients != want.Gradients || s.Moments != want.Moments || s.Total() != want.Total() {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// All ranks together hold each parameter once per replica, and under ZeRO 3 once.
func TestRanksHoldTheModelTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		power := func(name string) int { return 1 << rapid.IntRange(0, 3).Draw(t, name) }
		l := Layout{TP: power("tp"), EP: power("ep"), ETP: power("etp"), PP: 1}
		dp := l.EP * l.ETP * power("more")
		h := Held{Tensor: 1 << 20, Routed: 1 << 24}
		r := l.Replicas(dp)
		if r.Routed*l.EP*l.ETP != r.Dense*l.TP {
			t.Fatalf("%+v are not all ranks", r)
		}
		ranks := int64(dp * l.TP)
		every := h.State(l, Mixed(), 3, r)
		if got, want := ranks*every.Total(), 18*(h.Tensor+h.Routed); got != want {
			t.Errorf("%d bytes, want %d", got, want)
		}
	})
}

func TestTraffic(t *testing.T) {
	d := deepSeekV3()
	s := Sending{Element: 2, Dispatch: 1, Combine: 2}
	l := Layout{TP: 1, EP: 64, ETP: 1, PP: 16}
	messages := d.Last().Traffic(d.Hidden, l, s)
	// Of a token's choice top-k × width bytes go out in FP8 and twice that come back.
	if len(messages) != 2 || messages[0].Bytes != 8*7168 || messages[1].Bytes != 2*8*7168 || messages[0].Collective != AllToAll {
		t.Errorf("%+v", messages)
	}
	if b := d.Boundary(l, s); len(b) != 1 || b[0].Bytes != 2*7168 {
		t.Errorf("%+v", b)
	}
	if alone := d.Last().Traffic(d.Hidden, Single(), s); alone != nil || d.Boundary(Single(), s) != nil {
		t.Errorf("one chip sends %+v", alone)
	}
}

// Sequence parallelism sends forward what sums would (Korthikanti et al., section 4.2.2).
func TestSequenceParallelismSendsAsMuch(t *testing.T) {
	layer := llama("", 1, 4096, 32, 8, 14336, 32000).Last()
	s := Sending{Element: 2, Dispatch: 2, Combine: 2}
	sent := func(l Layout) float64 {
		n := 0.0
		for _, m := range layer.Traffic(4096, l, s) {
			n += float64(m.Forward) * m.Sent()
		}
		return n
	}
	l := Layout{TP: 8, EP: 1, ETP: 1, PP: 1}
	cut := sent(l)
	l.Whole = true
	if whole := sent(l); cut != whole || whole != 2*2*7/8.0*2*4096 {
		t.Errorf("%g, with sums %g", cut, whole)
	}
}

// An expert's layer sums its attention only, unless it has shared experts.
func TestBlocksThatAreSummed(t *testing.T) {
	l := Layout{TP: 4, EP: 8, ETP: 2, PP: 1}
	s := Sending{Element: 2, Dispatch: 2, Combine: 2}
	plain, shared := mixtral8x7B().Last().Traffic(4096, l, s), deepSeekV3().Last().Traffic(7168, l, s)
	if plain[0].Forward != 1 || shared[0].Forward != 2 {
		t.Errorf("%d and %d blocks", plain[0].Forward, shared[0].Forward)
	}
	groups := []string{}
	for _, m := range plain {
		groups = append(groups, m.Group)
	}
	if !slices.Equal(groups, []string{"tp", "tp", "ep", "ep", "etp", "etp"}) {
		t.Errorf("%v", groups)
	}
}

// Section 7 of ZeRO: twice the parameters in stages 0 to 2, three times in stage 3.
func TestSyncIsTheirVolume(t *testing.T) {
	const parameters = 1 << 30
	f := Formats{Weight: 2, Gradient: 2, Master: 4, Moments: 8}
	for zero, want := range []float64{2, 2, 2, 3} {
		sent := 0.0
		for _, m := range (Held{Tensor: parameters}).Sync(Single(), f, zero, Replicas{64, 64}) {
			sent += float64(m.Forward+m.Backward) * m.Sent()
		}
		if got := sent / (2 * parameters) * 64 / 63; got != want {
			t.Errorf("stage %d: %g times the parameters, theirs %g", zero, got, want)
		}
	}
}

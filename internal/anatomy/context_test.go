package anatomy

import (
	"testing"

	"pgregory.net/rapid"
)

// Llama 3 70B: 8 key/value heads of 128, 16 bit: 4096 bytes a token and layer, of which
// each of 8 tensor-parallel ranks has a head.
func TestContextTraffic(t *testing.T) {
	a := llama("", 80, 8192, 64, 8, 28672, 128256).Last().Attention
	s := Sending{Element: 2}
	m := a.Context(Single(), 4, s, false)
	if len(m) != 2 || m[0].Bytes != 4096 || float64(m[0].Forward)*m[0].Sent() != 3*4096 || float64(m[0].Backward)*m[0].Sent()+float64(m[1].Backward)*m[1].Sent() != 2*3*4096 {
		t.Errorf("%+v", m)
	}
	if m = a.Context(Layout{TP: 8, EP: 1, ETP: 1, PP: 1}, 4, s, false); m[0].Bytes != 512 {
		t.Errorf("%+v", m)
	}
	if m = a.Context(Single(), 1, s, true); m != nil {
		t.Errorf("one rank sends %+v", m)
	}
	if m = deepSeekV3().Last().Attention.Context(Single(), 2, s, false); m[0].Bytes != 2*128*(192+128) {
		t.Errorf("%+v", m)
	}
}

// Around a ring goes what is gathered.
func TestRingSendsWhatIsGathered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, cp := drawn(t), rapid.IntRange(2, 16).Draw(t, "cp")
		sent := func(gathered bool) (forward, backward float64) {
			for _, m := range d.Last().Attention.Context(Single(), cp, Sending{Element: 2}, gathered) {
				forward += float64(m.Forward) * m.Sent()
				backward += float64(m.Backward) * m.Sent()
			}
			return forward, backward
		}
		f1, b1 := sent(false)
		f2, b2 := sent(true)
		near := func(a, b float64) bool { return a-b < 1e-6 && b-a < 1e-6 }
		if !near(f1, f2) || !near(b1, b2) || !near(b1, 2*f1) {
			t.Errorf("a ring sends %g and %g, gathers %g and %g", f1, b1, f2, b2)
		}
	})
}

// In narrow formats products keep narrow inputs; attention's output, which attention
// keeps too, then stands there twice.
func TestNarrowInputs(t *testing.T) {
	layer := llama("", 1, 4096, 32, 8, 14336, 32000).Last()
	k := Keeping{Layout: Single(), Recompute: NoRecompute, Element: 2}
	wide := Sum(layer.Kept(4096, k))
	k.Narrow = 1
	if saved, want := wide-Sum(layer.Kept(4096, k)), 2*4096.0+14336-4096; saved != want {
		t.Errorf("%g bytes less, want %g", saved, want)
	}
}

// torchtitan's selective "op": of the seven products the first, third, fifth and last
// are kept, but the last one's output nothing needs.
func TestOperatorsThatAreKept(t *testing.T) {
	layer := llama("", 1, 4096, 32, 8, 14336, 32000).Last()
	got := Sum(layer.Kept(4096, Keeping{Layout: Single(), Recompute: Operators, Element: 2}))
	if want := 2.0*(4096+4096+1024+4096+14336) + 4*32; got != want {
		t.Errorf("%g bytes, want %g", got, want)
	}
	experts := deepSeekV3().Last()
	if some, all := Sum(experts.Kept(7168, Keeping{Layout: Single(), Recompute: Operators, Element: 2})), Sum(experts.Kept(7168, Keeping{Layout: Single(), Recompute: NoRecompute, Element: 2})); some <= 2*7168 || some >= all/2 {
		t.Errorf("%g bytes of %g", some, all)
	}
}

// Experts that are weighed inside keep no output.
func TestWeighedExperts(t *testing.T) {
	layer := mixtral8x7B().Last()
	k := Keeping{Layout: Single(), Recompute: NoRecompute, Element: 2}
	all := Sum(layer.Kept(4096, k))
	k.Weighed = true
	if saved := all - Sum(layer.Kept(4096, k)); saved != 2*2*4096 {
		t.Errorf("%g bytes less", saved)
	}
}

// A module keeps a layer and two normed inputs.
func TestKeptByModules(t *testing.T) {
	d := deepSeekV3()
	k := Keeping{Layout: Single(), Recompute: NoRecompute, Sequence: 4096, Element: 2}
	if got, want := Sum(d.Whole().KeptByModules(k)), 4*2*7168+Sum(d.Last().Kept(7168, k)); got != want {
		t.Errorf("%g, want %g", got, want)
	}
	if d.Stages(2)[0].KeptByModules(k) != nil {
		t.Error("the first stage keeps what the last one does")
	}
	d.MTP = 0
	if d.Whole().KeptByModules(k) != nil {
		t.Error("without modules they keep something")
	}
}

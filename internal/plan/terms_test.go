package plan

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
)

// mixture is one on one host of H100 with one layout.
func mixture(t *testing.T, set func(*drawn)) (*Model, Layout) {
	t.Helper()
	model, err := anatomy.Shape{Name: "deepseek-v3", Layers: 4, DenseLayers: 1, Hidden: 2048, Heads: 16, FFN: 8192, Experts: 16, TopK: 4, Shared: 1, ExpertFFN: 1024, Vocab: 64000}.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	d := drawn{Task{Model: model, Sequence: 4096, Batch: 8, Format: "bf16"}, catalogued(t, "h100-80g-sxm"), Layout{Layout: anatomy.Single(), DP: 8, CP: 1, VPP: 1, MicroBatch: 1, ZeRO: 1, Recompute: anatomy.NoRecompute}}
	set(&d)
	if err := d.l.Check(d.Task); err != nil {
		t.Fatal(err)
	}
	return d.model(t), d.l
}

func catalogued(t *testing.T, name string) Hardware {
	t.Helper()
	c, err := chip.Builtin().Find(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := HardwareOf(c, chip.Builtin().Chips()...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func like(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Abs(b) }

// Recipes of narrow formats leave the head in 16 bits.
func TestTheHeadIsNeverNarrowed(t *testing.T) {
	m, l := mixture(t, func(*drawn) {})
	wide := m.Time(l)
	m, l = mixture(t, func(d *drawn) { d.Format = "fp8" })
	narrow := m.Time(l)
	if !like(narrow.Terms[Head], wide.Terms[Head]) || narrow.Terms[Products] >= wide.Terms[Products] {
		t.Errorf("head: %g s in fp8, %g s in bf16; other products: %g s, %g s", narrow.Terms[Head], wide.Terms[Head], narrow.Terms[Products], wide.Terms[Products])
	}
}

// An MTP module has a whole layer like the last one: with its experts, their traffic and
// their parameters.
func TestMTPModulesHaveExperts(t *testing.T) {
	var s [3]Step
	var held [3]float64
	for n := range s {
		m, l := mixture(t, func(d *drawn) { d.Model.MTP, d.l.EP = n, 8 })
		s[n] = m.Time(l)
		_, held[n] = m.held(m.shards[shard{l.TP, l.Whole}], &l)
	}
	for n, step := range s { // of four layers three have experts
		more := float64(3+n) / 3
		for _, term := range []Term{ExpertProducts, ExpertTraffic} {
			if got := step.Terms[term] / s[0].Terms[term]; !like(got, more) {
				t.Errorf("%d modules: %v takes %g times as long, not %g", n, term, got, more)
			}
		}
		if !like(held[n]/held[0], more) {
			t.Errorf("%d modules: %g parameters of experts, %g without", n, held[n], held[0])
		}
	}
}

// The way to experts is that of anatomy's messages, where all links are alike.
func TestWayToExpertsIsAnatomys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 40 {
		m, l := mixture(t, func(d *drawn) {
			d.l.TP, d.l.EP, d.l.ETP, d.l.DP, d.Batch = among(r, 1, 2, 4), among(r, 1, 2, 4), among(r, 1, 2, 4), 16, 16
			d.Group, d.Pair = 64, 0
		})
		bytes := 0.0
		for _, run := range m.kinds {
			for _, message := range run.Layer.Traffic(m.task.Model.Hidden, l.Layout, anatomy.Sending{Element: 2, Dispatch: 2, Combine: 2}) {
				if message.Group == "ep" || message.Group == "etp" {
					bytes += float64(run.Count*(message.Forward+message.Backward)) * message.Sent()
				}
			}
		}
		m.c.hop = 0
		want := m.c.factor * m.c.ep * bytes * 4096 * m.c.link
		if got := m.Time(l).Terms[ExpertTraffic]; math.Abs(got-want) > 1e-9*want {
			t.Fatalf("%+v: %g s, by anatomy's messages %g s", l, got, want)
		}
	}
}

// Whatever spares memory takes time: memory and time mean the same by a mode.
func TestEveryModeOfRecomputationTakesTime(t *testing.T) {
	for _, c := range []struct {
		mode    anatomy.Recompute
		unfused bool
		stack   Stack
	}{{anatomy.FullLayers, false, Megatron}, {anatomy.Operators, false, Megatron}, {anatomy.Selective, true, Classic}, {anatomy.Selective, false, Titan}} {
		m, l := mixture(t, func(d *drawn) { d.l.Recompute, d.Unfused, d.Stack = c.mode, c.unfused, c.stack })
		again := m.Step(l)
		l.Recompute = anatomy.NoRecompute
		once := m.Step(l)
		if again.Bytes() >= once.Bytes() || again.Terms[Recomputed] <= 0 || once.Terms[Recomputed] != 0 {
			t.Errorf("%+v: %g bytes and %g s, without %g bytes and %g s", c, again.Bytes(), again.Terms[Recomputed], once.Bytes(), once.Terms[Recomputed])
		}
	}
}

// What is taken from other chips is said, what experts take only of models that have them.
func TestAssumedConstantsAreSaid(t *testing.T) {
	for _, c := range []struct {
		chip, format string
		dense        bool
		want         string // what of them, in their order
	}{
		{"h100-80g-sxm", "bf16", true, ""}, {"h100-80g-sxm", "bf16", false, ""}, {"h100-80g-sxm", "fp8", false, ""},
		{"a100-80g-sxm", "bf16", true, ""}, {"a100-80g-sxm", "bf16", false, "expert"},
		{"b200", "fp4", true, "product"}, {"mi355x", "bf16", true, ""}, {"mi300x", "bf16", true, "product score"}, {"mi300x", "fp8", true, "product product score"},
		{"ascend-910b2", "bf16", true, ""}, {"ascend-910c", "bf16", true, "product score"},
	} {
		d := drawn{Task: Task{Sequence: 4096, Batch: 8, Format: c.format}, Hardware: catalogued(t, c.chip), l: Layout{Layout: anatomy.Single()}}
		m, _ := mixture(t, func(*drawn) {})
		if d.Model = m.task.Model; c.dense {
			d.Model.Layers = d.Model.Layers[:1]
		}
		var what []string
		for _, said := range d.model(t).Assumed {
			word, _, _ := strings.Cut(said, ".")
			what = append(what, word)
		}
		if got := strings.Join(what, " "); got != c.want {
			t.Errorf("%s in %s: %q is said, not %q", c.chip, c.format, got, c.want)
		}
	}
}

// A range is as wide as what it rests on: of a chip that nothing was fitted to it is that of
// software and chips left out, unless the user says what products reach.
func TestRangesByWhatTheyRestOn(t *testing.T) {
	k := BuiltinConstants()
	d, _ := mixture(t, func(*drawn) {})
	task := d.task
	for chip, want := range map[string]string{"h100-80g-sxm": "range.experts", "mi300x": "range.other", "v100-32g-sxm": "range.other"} {
		if got := k.spread(task, catalogued(t, chip)); got != k.Of(want).Value {
			t.Errorf("%s: %g, not %s", chip, got, want)
		}
	}
	h := catalogued(t, "mi300x")
	h.Share = &Range{0.4, 0.5, 0.6}
	if got := k.spread(task, h); got >= k.Of("range.other").Value {
		t.Errorf("with a stated share: %g", got)
	}
	if got := k.spread(task, catalogued(t, "ascend-910b2")); got != max(k.Of("range.ascend").Value, k.Of("range.experts").Value) {
		t.Errorf("ascend: %g", got)
	}
}

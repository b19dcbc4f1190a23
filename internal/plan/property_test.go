package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
)

// drawn is a random task with a legal layout on a chip of the catalogue.
type drawn struct {
	Task
	Hardware
	l Layout
}

func (d drawn) String() string {
	return fmt.Sprintf("%s, %d layers of %d, sequence %d, batch %d, %s by %s on %d %s: %+v", d.Model.Name, d.Model.Depth(), d.Model.Hidden, d.Sequence, d.Batch, d.Format, d.Stack, d.l.Chips(), d.Chip, d.l)
}

func (d drawn) model(t *testing.T) *Model {
	t.Helper()
	m, err := PrepareFor(d.Task, d.Hardware, BuiltinConstants(), d.l.TP)
	if err != nil {
		t.Fatal(d, err)
	}
	return m
}

// predictable are the chips of the catalogue of which all is known that steps take.
func predictable(t *testing.T) []Hardware {
	t.Helper()
	var all []Hardware
	for _, c := range chip.Builtin().Chips() {
		if h, err := HardwareOf(c, chip.Builtin().Chips()...); err == nil && h.NIC > 0 && h.Peak["bf16"] > 0 {
			all = append(all, h)
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d chips", len(all))
	}
	return all
}

func among[T any](r *rand.Rand, some ...T) T { return some[r.IntN(len(some))] }

func drawModel(r *rand.Rand) anatomy.Shape {
	heads := among(r, 4, 8, 16)
	s := anatomy.Shape{Name: among(r, "llama", "gpt-3", "gpt-oss", "deepseek-v3", "qwen3", "nemotron"), Layers: 1 + r.IntN(16), Hidden: 128 * heads, Heads: heads, KVHeads: among(r, 2, 4, heads), FFN: 512 * heads, Vocab: 1000 * (1 + r.IntN(100)), MTP: r.IntN(3)}
	tied := r.IntN(2) == 0
	s.Tied = &tied
	if r.IntN(2) == 0 {
		s.Experts, s.TopK, s.ExpertFFN, s.Shared, s.DenseLayers = among(r, 4, 8, 64), 1+r.IntN(4), 128*heads, r.IntN(2), r.IntN(s.Layers)
	}
	return s
}

func drawLayout(r *rand.Rand, experts bool) Layout {
	l := Layout{Layout: anatomy.Layout{TP: among(r, 1, 2, 4, 8), PP: among(r, 1, 1, 2, 3, 4), EP: 1, ETP: 1, KVCopies: true}, DP: among(r, 1, 2, 6, 64), CP: among(r, 1, 1, 2, 4), VPP: among(r, 1, 1, 2),
		MicroBatch: among(r, 1, 2), ZeRO: r.IntN(4), Recompute: among(r, anatomy.NoRecompute, anatomy.Selective, anatomy.FullLayers, anatomy.Operators, "")}
	if experts {
		l.EP, l.ETP = among(r, 1, 2, 4, 64), among(r, 1, 1, 2, 4)
	} else {
		l.Whole = r.IntN(2) == 0
	}
	return l
}

// drawStages deals layers at random, one at least to each stage.
func drawStages(r *rand.Rand, depth, stages int) []int {
	if stages > depth {
		return nil
	}
	out := make([]int, stages)
	for i := range out {
		out[i] = 1
	}
	for range depth - stages {
		out[r.IntN(stages)]++
	}
	return out
}

// draw draws until a layout is legal.
func draw(t *testing.T, r *rand.Rand, chips []Hardware) drawn {
	t.Helper()
	for {
		s := drawModel(r)
		model, err := s.Decoder()
		if err != nil {
			t.Fatal(err)
		}
		d := drawn{Task{Model: model, Sequence: 1024 << r.IntN(5), Format: among(r, "bf16", "fp16", "fp8", "fp4", "tf32", "fp32"), Imbalance: among(r, 0, 1, 1.5),
			Stack: among(r, Megatron, Plain, Classic, FSDP, Titan, MindSpeed, Primus, Sailor, "of nobody"), Unfused: r.IntN(3) == 0}, among(r, chips...), drawLayout(r, s.Experts > 0)}
		d.Batch = d.l.DP * d.l.MicroBatch * (1 + r.IntN(12))
		if r.IntN(3) == 0 {
			d.l.Stages = drawStages(r, model.Depth(), d.l.PP)
		}
		if d.Peak[d.Format] > 0 && d.Peak[wide(d.Format)] > 0 && d.l.Check(d.Task) == nil {
			return d
		}
	}
}

// Whatever is legal takes a time that is positive, and the sum of its terms; memory too.
// Nothing is faster than the chips' peak. The same numbers are explained.
func TestLegalLayoutsTakeTime(t *testing.T) {
	r, chips := rand.New(rand.NewPCG(1, 1)), predictable(t)
	for range 1000 {
		d := draw(t, r, chips)
		m := d.model(t)
		s := m.Step(d.l)
		sum := 0.0
		for term, x := range s.Terms {
			if !(x >= 0 && x < math.Inf(1)) {
				t.Fatalf("%v\n%v takes %g s", d, Term(term), x)
			}
			sum += x
		}
		if math.Abs(sum/s.Seconds-1) > 1e-9 || !(s.Low < s.Seconds && s.Seconds < s.High) {
			t.Fatalf("%v\nterms add up to %g s; %+v", d, sum, s)
		}
		for part, x := range s.Memory {
			if !(x >= 0 && x < math.Inf(1)) {
				t.Fatalf("%v\n%v take %g bytes", d, Part(part), x)
			}
		}
		if mfu := m.MFU(s, d.l.Chips()); !(mfu > 0 && mfu < 1) {
			t.Fatalf("%v\nMFU %g", d, mfu)
		}
		terms, memory := m.Explain(d.l)
		for i, told := range append(terms, memory...) {
			want := append(s.Terms[:], s.Memory[:]...)[i]
			if told.Value != want || told.Formula == "" || strings.Contains(told.Formula, "%!") || strings.Contains(told.Formula, "NaN") || strings.Contains(told.Formula, "Inf") {
				t.Fatalf("%v\n%+v, and it is %g", d, told, want)
			}
		}
	}
}

// What makes a chip better makes no step longer, and what is more to do none shorter.
func TestBetterChipsAreNoSlowerAndMoreWorkIsNoFaster(t *testing.T) {
	r, chips := rand.New(rand.NewPCG(2, 2)), predictable(t)
	for range 80 {
		d := draw(t, r, chips)
		time := func(set func(d *drawn)) float64 {
			other := d
			other.Peak = map[string]float64{}
			for format, x := range d.Peak {
				other.Peak[format] = x
			}
			set(&other)
			if err := other.l.Check(other.Task); err != nil {
				t.Fatal(other, err)
			}
			return other.model(t).Time(other.l).Seconds
		}
		now := time(func(*drawn) {})
		for name, set := range map[string]func(d *drawn){
			"memory":  func(d *drawn) { d.Bandwidth *= 2 },
			"links":   func(d *drawn) { d.Link *= 2 },
			"pairs":   func(d *drawn) { d.Pair *= 2 },
			"network": func(d *drawn) { d.NIC *= 2 },
			"peaks": func(d *drawn) {
				for format := range d.Peak {
					d.Peak[format] *= 2
				}
			},
		} {
			if better := time(set); better > now*(1+1e-12) || better < now/2*(1-1e-12) {
				t.Fatalf("%v\n%s twice as fast: %g s, once %g s", d, name, better, now)
			}
		}
		for name, set := range map[string]func(d *drawn){
			"twice the batch":       func(d *drawn) { d.Batch *= 2 },
			"twice the sequence":    func(d *drawn) { d.Sequence *= 2 },
			"imbalance":             func(d *drawn) { d.Imbalance = 2 },
			"everything once more":  func(d *drawn) { d.l.Recompute = anatomy.FullLayers },
			"exchange after work":   func(d *drawn) { d.l.Exposed = true },
			"an MTP module more":    func(d *drawn) { d.Model.MTP++ },
			"weights on all ranks":  func(d *drawn) { d.l.ZeRO = 0 },
			"weights gathered anew": func(d *drawn) { d.l.ZeRO = 3 },
		} {
			base := now
			if strings.HasPrefix(name, "weights") {
				base = time(func(d *drawn) { d.l.ZeRO = 1 })
			}
			if more := time(set); more < base*(1-1e-12) {
				t.Fatalf("%v\n%s: %g s, without %g s", d, name, more, base)
			}
		}
	}
}

// F17: stages have each layer once. The twin asks anatomy for the stages, and adds up
// layer by layer.
func TestF17StagesHaveEachLayerOnce(t *testing.T) {
	r, chips := rand.New(rand.NewPCG(3, 3)), predictable(t)
	for range 200 {
		d := draw(t, r, chips)
		m := d.model(t)
		even := d.l
		even.Stages = nil
		w := m.walk(&even)
		said := d.l
		said.Stages = make([]int, d.l.PP)
		for i, stage := range d.Model.Stages(d.l.PP) {
			var want [mostKinds]int
			for _, held := range stage.Held {
				said.Stages[i] += held.Count
				for k, kind := range m.kinds {
					if kind.Layer == held.Layer {
						want[k] += held.Count
					}
				}
			}
			if stage.Final {
				want[m.order[len(m.order)-1].kind] += d.Model.MTP
			}
			if got := w.next(); got != want {
				t.Fatalf("%v\nstage %d has %v, anatomy's %v", d, i, got, want)
			}
		}
		if a, b := m.Time(even), m.Time(said); a != b {
			t.Fatalf("%v\neven stages take %g s, %v %g s", d, a.Seconds, said.Stages, b.Seconds)
		}
	}
}

func TestF17StagesOfTwelveLayers(t *testing.T) {
	d, err := anatomy.Shape{Name: "llama", Layers: 12, Hidden: 1024, Heads: 8, FFN: 4096, Vocab: 32000}.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	m, err := PrepareFor(Task{Model: d, Sequence: 1024, Batch: 8}, catalogued(t, "h100-80g-sxm"), BuiltinConstants(), 1)
	if err != nil {
		t.Fatal(err)
	}
	l := Layout{Layout: anatomy.Layout{TP: 1, EP: 1, ETP: 1, PP: 5}, DP: 1, CP: 1, VPP: 1, MicroBatch: 1}
	for i, want := range []int{2, 2, 2, 3, 3} {
		if n := m.layersOf(&l, i); n != want {
			t.Errorf("stage %d has %d layers, not %d", i, n, want)
		}
	}
	l.PP, l.Stages = 2, []int{9, 3}
	if err := l.Check(m.task); err != nil {
		t.Error(err)
	}
	uneven := m.Time(l).Terms
	l.Stages = nil
	if even := m.Time(l).Terms; math.Abs(uneven[Attention]/even[Attention]-1.5) > 1e-9 {
		t.Errorf("9 layers on the slowest stage take %g s, 6 take %g s", uneven[Attention], even[Attention])
	}
	l.Stages = []int{12, 0}
	if err := l.Check(m.task); err == nil {
		t.Error("a stage without layers passes")
	}
}

package plan

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/anatomy"
)

func denseModel(layers, hidden, heads, kv, ffn, vocab int) anatomy.Decoder {
	return anatomy.Decoder{Name: "dense", Vocab: vocab, Hidden: hidden, Layers: []anatomy.Run{{Count: layers, Layer: anatomy.Layer{
		Attention: anatomy.Attention{Heads: heads, KVHeads: kv, HeadDim: hidden / heads}, MLP: anatomy.MLP{Width: ffn, Gated: true}, Norms: 2,
	}}}}
}

// withExperts turns the layers from one on into experts.
func withExperts(d anatomy.Decoder, from int, e anatomy.Experts) anatomy.Decoder {
	first := d.Layers[0]
	sparse := anatomy.Run{Count: first.Count - from, Layer: first.Layer}
	sparse.MLP, sparse.Experts = anatomy.MLP{}, &e
	if d.Layers = nil; from > 0 {
		first.Count = from
		d.Layers = []anatomy.Run{first}
	}
	d.Layers = append(d.Layers, sparse)
	return d
}

// drawnTask is any model and a layout that it can have.
func drawnTask(t *rapid.T) (Task, Layout) {
	power := func(name string, most int) int { return 1 << rapid.IntRange(0, most).Draw(t, name) }
	n := func(name string, least, most int) int { return rapid.IntRange(least, most).Draw(t, name) }
	d := denseModel(n("layers", 1, 40), 512, 16, power("kv", 4), 256*power("ffn", 2), n("vocab", 100, 9000))
	d.Tied, d.MTP, d.Positions = rapid.Bool().Draw(t, "tied"), n("mtp", 0, 2), 100*n("positions", 0, 1)
	l := Layout{Layout: anatomy.Layout{TP: power("tp", 4), EP: 1, ETP: 1, PP: n("pp", 1, d.Depth()), KVCopies: true}, VPP: 1, DP: n("dp", 1, 5), CP: power("cp", 2),
		MicroBatch: n("micro", 1, 3), ZeRO: n("zero", 0, 3), Recompute: rapid.SampledFrom(anatomy.Recomputes()).Draw(t, "recompute")}
	if depth := d.Depth(); l.PP > 1 {
		l.VPP = n("vpp", 1, depth/l.PP)
	}
	if rapid.Bool().Draw(t, "sparse") {
		e := anatomy.Experts{Count: 16, TopK: n("top", 1, 4), Each: anatomy.MLP{Width: 128, Gated: true}, Shared: anatomy.MLP{Width: 256 * n("shared", 0, 1), Gated: true}}
		d = withExperts(d, n("dense", 0, d.Depth()-1), e)
		l.EP, l.ETP = power("ep", 4), power("etp", 2)
		l.DP *= l.EP * l.ETP
	} else {
		l.Whole = rapid.Bool().Draw(t, "whole")
	}
	task := Task{Model: d, Sequence: 2048, Format: "bf16", Imbalance: float64(n("imbalance", 0, 3)), Stack: rapid.SampledFrom([]Stack{"", Megatron, FSDP, Titan, Classic, Sailor}).Draw(t, "stack")}
	task.Batch = l.DP * l.MicroBatch * n("micros", 1, 40)
	if l.VPP > 1 { // interleaving goes round by as many micro-batches as there are stages
		task.Batch = l.DP * l.MicroBatch * l.PP * n("rounds", 1, 8)
	}
	return task, l
}

// slowMemory asks anatomy about every stage, word by word.
func slowMemory(task Task, l Layout, rank int) [Parts]float64 {
	h := habitsOf(task)
	l.Whole = l.Whole || h.whole
	d := l.Layout.For(task.Model)
	micros := task.Batch / (l.DP * l.MicroBatch)
	recompute := modeRecomputes()[h.modeOf(l.Recompute)]
	k := h.keeping(task, l.Layout, recompute)
	tokens := float64(task.Sequence*l.MicroBatch) / float64(l.CP)
	stages := d.Stages(l.PP * l.VPP)
	weighed := func(all []anatomy.Kept) float64 {
		n := 0.0
		for _, kept := range all {
			if kept.Name == anatomy.KeptExperts {
				kept.Bytes *= max(1, task.Imbalance)
			}
			n += kept.Bytes
		}
		return n
	}
	var held anatomy.Held
	var p [Parts]float64
	head := 0.0
	for v := range l.VPP {
		s := stages[v*l.PP+rank]
		parameters := s.Parameters()
		if s.Final {
			parameters = append(parameters, s.Modules()...)
			head += tokens * h.loss[min(1, l.TP-1)] * float64(d.Vocab) / float64(l.TP)
			if l.TP > 1 && !l.Whole {
				head += tokens * float64(h.element*d.Hidden)
			}
		}
		of := parameters.Held()
		held.Tensor, held.Copied, held.Routed = held.Tensor+of.Tensor, held.Copied+of.Copied, held.Routed+of.Routed
		flight := float64(inFlight(l.PP, l.VPP, micros, rank, v)) * tokens
		for _, r := range s.Held {
			p[Activations] += flight * float64(r.Count) * weighed(r.Kept(d.Hidden, k))
		}
		p[Activations] += flight * weighed(s.KeptByModules(k))
		for _, kept := range s.KeptAtEnds(k) {
			if kept.Name == anatomy.KeptHead {
				head += flight * kept.Bytes
			} else {
				p[Activations] += flight * kept.Bytes
			}
		}
	}
	replicas := l.Replicas(l.DP * l.CP)
	state, whole := held.State(l.Layout, h.formats, l.ZeRO, replicas), held.State(l.Layout, h.formats, min(l.ZeRO, 1), replicas)
	p[Weights], p[Gradients], p[Masters], p[Moments] = float64(state.Weights), float64(state.Gradients), float64(state.Masters), float64(state.Moments)
	if h.sharded && l.ZeRO == 3 {
		if p[Weights] = 0; h.formats.Master == 0 {
			p[Weights] = float64(state.Weights)
		}
		if l.PP > 1 {
			p[Weights], p[Gradients] = float64(whole.Weights), float64(whole.Gradients)
		}
	}
	dense, routed := held.Rank(l.TP, l.EP, l.ETP)
	p[Logits] = head
	p[Buffers] = h.flat*float64(dense+routed) + slowBuffers(task, l, d, h, head, recompute)
	return p
}

// slowBuffers looks for the largest of each number over all layers.
func slowBuffers(task Task, l Layout, d anatomy.Decoder, h habits, head float64, recompute anatomy.Recompute) float64 {
	var dense, routed, mlp, all, some, inside float64
	for _, r := range d.Layers {
		held := anatomy.Stage{Decoder: d, Held: []anatomy.Run{{Count: 1, Layer: r.Layer}}}.Parameters().Held()
		own, experts := held.Rank(l.TP, l.EP, l.ETP)
		dense, routed = max(dense, float64(own)), max(routed, float64(experts))
		k := h.keeping(task, l.Layout, anatomy.NoRecompute)
		kept := r.Kept(d.Hidden, k)
		ofExperts := named(kept, anatomy.KeptExperts)
		inside = max(inside, max(1, task.Imbalance)*ofExperts)
		all = max(all, anatomy.Sum(kept)-ofExperts)
		into := 0.0
		if e := r.Experts; e != nil {
			into = max(float64(2*e.Shared.Width), max(1, task.Imbalance)*float64(2*e.TopK*e.Each.Width))
		} else {
			into = float64(2 * r.MLP.Width)
		}
		mlp = max(mlp, into*float64(h.element)/float64(l.TP))
		kept = r.Kept(d.Hidden, h.keeping(task, l.Layout, anatomy.Selective))
		some = max(some, anatomy.Sum(kept)-named(kept, anatomy.KeptExperts))
	}
	work := mlp
	if l.TP > 1 && !l.Whole {
		work += float64(h.element * d.Hidden)
	}
	switch recompute {
	case anatomy.FullLayers, anatomy.Operators:
		work += all + inside
	case anatomy.Selective:
		work += all - some
	}
	work *= float64(task.Sequence*l.MicroBatch) / float64(l.CP)
	gathered := 0.0
	if l.ZeRO == 3 {
		work += float64(h.element+h.formats.Gradient) * (dense + routed)
		if !h.sharded || l.PP == 1 {
			gathered = 2 * (dense + routed)
		}
		if h.sharded && l.PP == 1 {
			ends, _ := anatomy.Stage{Decoder: d, First: true, Final: true}.Parameters().Held().Rank(l.TP, l.EP, l.ETP)
			modules, _ := d.Modules().Held().Rank(l.TP, l.EP, l.ETP)
			gathered += float64(ends + modules)
		}
	}
	return float64(h.element)*gathered + max(0, work-head)
}

func total(p [Parts]float64) float64 { return Step{Memory: p}.Bytes() }

// The table's numbers are those of anatomy, of the fullest of all ranks.
func TestMemoryIsAnatomyStageByStage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task, l := drawnTask(t)
		if err := l.Check(task); err != nil {
			t.Skip(err)
		}
		task.Format = rapid.SampledFrom([]string{"bf16", "fp8", "tf32"}).Draw(t, "format")
		m := newMemory(task)
		got := m.of(l)
		most, found := 0.0, false
		const rounding = 64 // bytes: shares of fractions are rounded up in another order
		near := func(a, b float64) bool { return math.Abs(a-b) <= rounding+1e-9*math.Abs(b) }
		for rank := range l.PP {
			want := slowMemory(task, l, rank)
			most = max(most, total(want))
			same := true
			for p := range Framework {
				same = same && near(got[p], want[p])
			}
			found = found || same
		}
		if !found || !near(total(got)-got[Framework], most) {
			t.Errorf("%v, the fullest rank has %v", got, most)
		}
		for p, told := range m.explain(l) {
			if told.Value != got[p] || told.Formula == "" || told.Name != Part(p).String() {
				t.Errorf("%+v, the part is %v", told, got[p])
			}
		}
	})
}

// schedule runs 1F1B, interleaved or not, pass by pass as a rank does, and gives the most
// passes of one virtual stage that are forward and not yet backward, at the moment when there are most in all.
func schedule(pp, vpp, micros, rank int) []int {
	warm := micros * vpp
	if vpp == 1 {
		warm = min(warm, pp-rank-1)
	} else {
		warm = min(warm, 2*(pp-rank-1)+(vpp-1)*pp)
	}
	virtual := func(pass int) int { return pass % (pp * vpp) / pp }
	if vpp == 1 {
		virtual = func(int) int { return 0 }
	}
	held, most := make([]int, vpp), make([]int, vpp)
	sum := func(a []int) (n int) {
		for _, x := range a {
			n += x
		}
		return n
	}
	note := func() {
		if sum(held) > sum(most) {
			copy(most, held)
		}
	}
	forward, backward := 0, 0
	for backward < micros*vpp {
		if forward < micros*vpp {
			held[virtual(forward)]++
			forward++
			note()
		}
		if forward > warm || forward == micros*vpp {
			held[vpp-1-virtual(backward)]--
			backward++
		}
	}
	return most
}

func TestInFlightIsTheSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pp, vpp := rapid.IntRange(1, 9).Draw(t, "pp"), rapid.IntRange(1, 5).Draw(t, "vpp")
		if pp == 1 {
			vpp = 1
		}
		micros := pp * rapid.IntRange(1, 6).Draw(t, "rounds")
		if vpp == 1 {
			micros = rapid.IntRange(1, 20).Draw(t, "micros")
		}
		for rank := range pp {
			for v, want := range schedule(pp, vpp, micros, rank) {
				if got := inFlight(pp, vpp, micros, rank, v); got != want {
					t.Errorf("pp %d, vpp %d, %d micro-batches: rank %d holds %d of virtual stage %d, the schedule %d", pp, vpp, micros, rank, got, v, want)
				}
			}
		}
	})
}

func BenchmarkMemory(b *testing.B) {
	d := withExperts(denseModel(61, 7168, 128, 128, 18432, 129280), 3, anatomy.Experts{Count: 256, TopK: 8, Each: anatomy.MLP{Width: 2048, Gated: true}})
	for _, c := range []struct {
		name string
		task Task
		l    Layout
	}{
		{"530B", Task{Model: denseModel(105, 20480, 128, 128, 4*20480, 51200), Sequence: 2048, Batch: 2520},
			Layout{Layout: anatomy.Layout{TP: 8, PP: 35, EP: 1, ETP: 1}, DP: 9, CP: 1, VPP: 3, MicroBatch: 1, ZeRO: 1}},
		{"experts", Task{Model: d, Sequence: 4096, Batch: 2048},
			Layout{Layout: anatomy.Layout{TP: 1, PP: 16, EP: 64, ETP: 1}, DP: 128, CP: 1, VPP: 1, MicroBatch: 1, ZeRO: 1}},
	} {
		m := newMemory(c.task)
		b.Run(c.name+"/prepare", func(b *testing.B) {
			for b.Loop() {
				newMemory(c.task)
			}
		})
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.of(c.l)
			}
		})
	}
}

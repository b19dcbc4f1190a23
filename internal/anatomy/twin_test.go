package anatomy

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/model"
)

// listed is a tensor of a model, written out one by one as the models' files have them.
type listed struct {
	shape  []int
	kind   model.Kind
	split  Split
	active bool
}

func (l listed) size() int64 {
	n := int64(1)
	for _, d := range l.shape {
		n *= int64(d)
	}
	return n
}

// tensorsOf is the slow twin of Parameters.
func tensorsOf(d Decoder) []listed {
	list := []listed{{[]int{d.Vocab, d.Hidden}, model.Embedding, Tensor, true}}
	if d.Positions > 0 {
		list = append(list, listed{[]int{d.Positions, d.Hidden}, Positions, Copied, true})
	}
	for _, r := range d.Layers {
		for range r.Count {
			list = append(list, tensorsOfLayer(r.Layer, d)...)
		}
	}
	list = append(list, normTensors(d, 1)...)
	if !d.Tied {
		list = append(list, listed{[]int{d.Vocab, d.Hidden}, model.Head, Tensor, true})
	}
	return list
}

func normTensors(d Decoder, count int) []listed {
	var list []listed
	for range count {
		list = append(list, listed{[]int{d.Hidden}, model.Norm, Copied, true})
		if d.NormBias {
			list = append(list, listed{[]int{d.Hidden}, model.Norm, Copied, true})
		}
	}
	return list
}

func tensorsOfLayer(l Layer, d Decoder) []listed {
	list := append(normTensors(d, l.Norms), tensorsOfAttention(l.Attention, d.Hidden)...)
	if l.Experts == nil {
		return append(list, tensorsOfMLP(l.MLP, d.Hidden, model.Dense, Tensor, true)...)
	}
	e := l.Experts
	list = append(list, listed{[]int{e.Count, d.Hidden}, model.Router, Copied, true})
	if e.RouterBias {
		list = append(list, listed{[]int{e.Count}, model.Router, Copied, true})
	}
	if e.Correction {
		list = append(list, listed{[]int{e.Count}, model.State, Copied, true})
	}
	if e.State > 0 {
		list = append(list, listed{[]int{e.State}, model.State, Copied, true})
	}
	for i := range e.Count {
		list = append(list, tensorsOfMLP(e.Each, d.Hidden, model.Expert, Routed, i < e.TopK)...)
	}
	if e.Shared.Width > 0 {
		list = append(list, tensorsOfMLP(e.Shared, d.Hidden, model.Shared, Tensor, true)...)
	}
	if e.SharedGate {
		list = append(list, listed{[]int{1, d.Hidden}, model.Shared, Copied, true})
	}
	return list
}

func tensorsOfMLP(m MLP, hidden int, kind model.Kind, split Split, active bool) []listed {
	list := []listed{{[]int{m.Width, hidden}, kind, split, active}, {[]int{hidden, m.Width}, kind, split, active}}
	if m.Gated {
		list = append(list, listed{[]int{m.Width, hidden}, kind, split, active})
	}
	if !m.Bias {
		return list
	}
	list = append(list, listed{[]int{m.Width}, kind, split, active})
	if m.Gated {
		list = append(list, listed{[]int{m.Width}, kind, split, active})
	}
	last := Copied
	if split == Routed {
		last = Routed
	}
	return append(list, listed{[]int{hidden}, kind, last, active})
}

func tensorsOfAttention(a Attention, hidden int) []listed {
	if a.Latent != nil {
		return tensorsOfLatent(*a.Latent, a, hidden)
	}
	query, kv := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
	var list []listed
	add := func(kind model.Kind, split Split, shape ...int) {
		list = append(list, listed{shape, kind, split, true})
	}
	add(model.Attention, Tensor, query, hidden)
	add(model.Attention, Tensor, kv, hidden)
	add(model.Attention, Tensor, kv, hidden)
	add(model.Attention, Tensor, hidden, query)
	if a.InBias {
		add(model.Attention, Tensor, query)
		add(model.Attention, Tensor, kv)
		add(model.Attention, Tensor, kv)
	}
	if a.OutBias {
		add(model.Attention, Copied, hidden)
	}
	if a.Sinks {
		add(model.Attention, Tensor, a.Heads)
	}
	switch a.QKNorm {
	case HeadQKNorm:
		add(model.Norm, Copied, a.HeadDim)
		add(model.Norm, Copied, a.HeadDim)
	case WidthQKNorm:
		add(model.Norm, Copied, query)
		add(model.Norm, Copied, kv)
	}
	return list
}

func tensorsOfLatent(m Latent, a Attention, hidden int) []listed {
	var list []listed
	add := func(kind model.Kind, split Split, shape ...int) {
		list = append(list, listed{shape, kind, split, true})
	}
	query := a.Heads * (m.Nope + m.Rope)
	if m.QueryRank == 0 {
		add(model.Attention, Tensor, query, hidden)
	} else {
		add(model.Attention, Copied, m.QueryRank, hidden)
		add(model.Norm, Copied, m.QueryRank)
		add(model.Attention, Tensor, query, m.QueryRank)
	}
	add(model.Attention, Copied, m.KVRank+m.Rope, hidden)
	add(model.Norm, Copied, m.KVRank)
	add(model.Attention, Tensor, a.Heads*(m.Nope+m.Value), m.KVRank)
	add(model.Attention, Tensor, hidden, a.Heads*m.Value)
	if a.InBias {
		if m.QueryRank > 0 {
			add(model.Attention, Copied, m.QueryRank)
		}
		add(model.Attention, Copied, m.KVRank+m.Rope)
	}
	if a.OutBias {
		add(model.Attention, Copied, hidden)
	}
	if a.Sinks {
		add(model.Attention, Tensor, a.Heads)
	}
	return list
}

// drawn is any small decoder.
func drawn(t *rapid.T) Decoder {
	n := func(name string, least, most int) int { return rapid.IntRange(least, most).Draw(t, name) }
	yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
	d := Decoder{Vocab: n("vocab", 1, 50), Hidden: n("hidden", 1, 20), Positions: n("positions", 0, 9), Tied: yes("tied"), NormBias: yes("norm bias"), MTP: n("mtp", 0, 2)}
	for range n("runs", 1, 3) {
		l := Layer{Norms: n("norms", 0, 4), Attention: Attention{
			Heads: n("heads", 1, 8), HeadDim: n("dim", 1, 9), InBias: yes("in bias"), OutBias: yes("out bias"), QKNorm: QKNorm(n("qk norm", 0, 2)), Sinks: yes("sinks"),
		}}
		l.Attention.KVHeads = n("kv", 1, l.Attention.Heads)
		if yes("latent") {
			l.Attention.Latent = &Latent{QueryRank: n("query rank", 0, 5), KVRank: n("kv rank", 1, 5), Nope: n("nope", 0, 5), Rope: n("rope", 0, 5), Value: n("value", 1, 5)}
		}
		mlp := func(least int) MLP { return MLP{Width: n("width", least, 12), Gated: yes("gated"), Bias: yes("bias")} }
		if l.MLP = mlp(1); yes("sparse") {
			e := Experts{Count: n("experts", 1, 8), Each: mlp(1), SharedGate: yes("gate"), RouterBias: yes("router bias"), Correction: yes("correction"), State: n("state", 0, 2)}
			e.TopK, e.Shared = n("top", 1, e.Count), mlp(0)
			l.MLP, l.Experts = MLP{}, &e
		}
		d.Layers = append(d.Layers, Run{n("count", 1, 4), l})
	}
	return d
}

// The closed form is the sum over a list of all tensors.
func TestParametersAreTheTensors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawn(t)
		if err := d.Validate(); err != nil {
			t.Fatal(err)
		}
		type group struct {
			kind  model.Kind
			split Split
		}
		want, got := map[group]int64{}, map[group]int64{}
		active := int64(0)
		for _, tensor := range tensorsOf(d) {
			want[group{tensor.kind, tensor.split}] += tensor.size()
			if tensor.active {
				active += tensor.size()
			}
		}
		p := d.Parameters()
		for _, part := range p {
			got[group{part.Kind, part.Split}] += part.Count
		}
		if p.Active() != active {
			t.Errorf("%d active, the list has %d", p.Active(), active)
		}
		for g, n := range want {
			if got[g] != n {
				t.Errorf("%v: %d, the list has %d", g, got[g], n)
			}
		}
		for g, n := range got {
			if want[g] != n {
				t.Errorf("%v: %d, the list has %d", g, n, want[g])
			}
		}
		for _, part := range append(p, d.Modules()...) {
			if evaluated(t, part.Formula) != part.Count {
				t.Errorf("%s does not come to %d", part.Formula, part.Count)
			}
		}
		if rough := d.rough() + 1e4; float64(p.Total()) > 4*rough {
			t.Errorf("%d parameters, roughly %g", p.Total(), rough)
		}
	})
}

// A product of matrices is twice their weights: work is counted from the same tensors.
func TestWorkIsTheMatrices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawn(t)
		d.MTP = 0
		matrices := int64(d.Vocab) * int64(d.Hidden) // of the head, tied or not
		for _, tensor := range tensorsOf(d) {
			if len(tensor.shape) == 2 && tensor.active && tensor.kind != model.Embedding && tensor.kind != model.Head && tensor.kind != Positions {
				matrices += tensor.size()
			}
		}
		w := d.Work(Convention{Sequence: 16})
		if got := w.Forward() - w.Of(Scores).Forward; got != 2*float64(matrices) {
			t.Errorf("%g operations of %d weights", got, matrices)
		}
	})
}

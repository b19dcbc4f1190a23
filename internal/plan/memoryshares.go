package plan

import (
	"github.com/mistura-project/mistura/internal/anatomy"
)

// mode is a place in arrays by way of recomputation.
type mode int

const (
	keepAll mode = iota
	keepSelected
	keepInputs
	keepOperators
	modes
)

func modeRecomputes() [modes]anatomy.Recompute {
	return [modes]anatomy.Recompute{anatomy.NoRecompute, anatomy.Selective, anatomy.FullLayers, anatomy.Operators}
}

// shares are what a rank has of layers and ends, by anatomy, for one number of tensor-parallel
// ranks.
type shares struct {
	sums               []layerSums // of all layers before each
	largest            layerSums   // of one layer, each of its numbers
	first, final, both endShares
	imbalance          float64
}

// layerSums are sums over layers: parameters of a rank, routed ones of all expert-parallel
// ranks; and bytes a token, by mode and with and without sequence parallelism. What
// experts keep stands apart: imbalance multiplies it, and of its ends each of an expert's ranks
// has a copy.
type layerSums struct {
	dense, routed float64
	kept          [modes][2]float64
	inner, ends   [modes]float64
	// Gradients of what goes into the activation of an MLP, or of all chosen experts.
	grads, expertGrads float64
}

// endShares is what embedding or head take: also, a token, what is there while the
// loss is taken.
type endShares struct {
	layerSums
	head [2]float64
}

// alone is a tensor-parallel degree and nothing else.
func alone(tp int) anatomy.Layout {
	return anatomy.Layout{TP: tp, EP: 1, ETP: 1, PP: 1, KVCopies: true}
}

func sharesOf(t Task, h habits, one anatomy.Layout) *shares {
	d := one.For(t.Model)
	s := &shares{sums: make([]layerSums, 1, d.Depth()+1), imbalance: max(1, t.Imbalance)}
	s.first = endOf(t, h, one, anatomy.Stage{Decoder: d, First: true})
	s.final = endOf(t, h, one, anatomy.Stage{Decoder: d, Final: true})
	s.both = endOf(t, h, one, anatomy.Stage{Decoder: d, First: true, Final: true})
	for _, r := range d.Layers {
		stage := anatomy.Stage{Decoder: d, Held: []anatomy.Run{{Count: 1, Layer: r.Layer}}}
		layer := sumsOf(one, stage.Parameters(), func(l anatomy.Layout, m anatomy.Recompute) []anatomy.Kept {
			return r.Kept(d.Hidden, h.keeping(t, l, m))
		})
		layer.grads, layer.expertGrads = h.grads(r.Layer, one.TP)
		s.largest = s.largest.with(layer, func(a, b float64) float64 { return max(a, b) })
		for range r.Count {
			s.sums = append(s.sums, s.sums[len(s.sums)-1].with(layer, func(a, b float64) float64 { return a + b }))
		}
	}
	return s
}

// sumsOf asks anatomy.
func sumsOf(one anatomy.Layout, p anatomy.Parameters, kept func(anatomy.Layout, anatomy.Recompute) []anatomy.Kept) layerSums {
	held := p.Held()
	s := layerSums{dense: float64(held.Tensor)/float64(one.TP) + float64(held.Copied), routed: float64(held.Routed)}
	whole, two := one, one
	whole.Whole, two.ETP = true, 2
	for i, m := range modeRecomputes() {
		all := kept(one, m)
		experts := named(all, anatomy.KeptExperts)
		rest := anatomy.Sum(all) - experts
		s.kept[i] = [2]float64{rest, rest}
		if one.TP > 1 {
			s.kept[i][1] = anatomy.Sum(kept(whole, m)) - experts
		}
		if experts > 0 { // their ends grow with their ranks: what two have more is one end
			s.ends[i] = named(kept(two, m), anatomy.KeptExperts) - experts
			s.inner[i] = experts - s.ends[i]
		}
	}
	return s
}

// grads are bytes a token.
func (h habits) grads(l anatomy.Layer, tp int) (dense, experts float64) {
	of := func(m anatomy.MLP) float64 {
		vectors := 1.0
		if m.Gated {
			vectors = 2
		}
		return float64(h.element) * vectors * float64(m.Width) / float64(tp)
	}
	if l.Experts == nil {
		return of(l.MLP), 0
	}
	return of(l.Experts.Shared), float64(l.Experts.TopK) * of(l.Experts.Each)
}

func endOf(t Task, h habits, one anatomy.Layout, stage anatomy.Stage) endShares {
	p := stage.Parameters()
	if stage.Final {
		p = append(p, stage.Modules()...)
	}
	var ends [2][]anatomy.Kept // which no recomputation changes
	for i := range ends {
		l := one
		l.Whole = i == 1
		ends[i] = stage.KeptAtEnds(h.keeping(t, l, anatomy.NoRecompute))
	}
	e := endShares{layerSums: sumsOf(one, p, func(l anatomy.Layout, m anatomy.Recompute) []anatomy.Kept {
		kept := stage.KeptByModules(h.keeping(t, l, m))
		i := 0
		if l.Whole {
			i = 1
		}
		for _, k := range ends[i] {
			if k.Name != anatomy.KeptHead {
				kept = append(kept, k)
			}
		}
		return kept
	})}
	for i := range e.head {
		if stage.Final {
			l := one
			l.Whole = i == 1
			e.head[i] = named(ends[i], anatomy.KeptHead) + h.lossOf(stage.Vocab, one.TP) + h.gathered(stage.Hidden, l)
		}
	}
	return e
}

// named sums what has a name.
func named(kept []anatomy.Kept, name string) float64 {
	n := 0.0
	for _, k := range kept {
		if k.Name == name {
			n += k.Bytes
		}
	}
	return n
}

func (s layerSums) with(o layerSums, f func(a, b float64) float64) layerSums {
	s.dense, s.routed, s.grads, s.expertGrads = f(s.dense, o.dense), f(s.routed, o.routed), f(s.grads, o.grads), f(s.expertGrads, o.expertGrads)
	for m := range modes {
		s.inner[m], s.ends[m] = f(s.inner[m], o.inner[m]), f(s.ends[m], o.ends[m])
		for whole := range s.kept[m] {
			s.kept[m][whole] = f(s.kept[m][whole], o.kept[m][whole])
		}
	}
	return s
}

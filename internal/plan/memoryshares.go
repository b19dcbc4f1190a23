package plan

import (
	"cmp"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// shares are what a rank has of layers and ends, by anatomy, for one number of tensor-parallel
// ranks.
type shares struct {
	sums               []layerSums // of all layers before each
	largest            layerSums   // of one layer, by its parts apart
	first, final, both endShares
	imbalance          float64
}

// layerSums are sums over layers: parameters of a rank, routed ones of all expert-parallel
// ranks; and bytes a token, by mode and with and without sequence parallelism. What
// experts keep stands apart: imbalance multiplies it, and of its two ends each of an expert's ranks
// has a copy.
type layerSums struct {
	dense, routed float64
	kept          [3][2]float64
	inner, ends   float64
}

// endShares is what embedding or head take.
type endShares struct {
	dense, routed float64
	kept, logits  [2]float64
}

func sharesOf(t Task, h habits, tp int) *shares {
	one := anatomy.Layout{TP: tp, EP: 1, ETP: 1, PP: 1, KVCopies: true}
	d := one.For(t.Model)
	s := &shares{sums: make([]layerSums, 1, d.Depth()+1), imbalance: cmp.Or(t.Imbalance, 1)}
	s.first = endOf(t, h, one, anatomy.Stage{Decoder: d, First: true})
	s.final = endOf(t, h, one, anatomy.Stage{Decoder: d, Final: true})
	s.both = endOf(t, h, one, anatomy.Stage{Decoder: d, First: true, Final: true})
	for _, r := range d.Layers {
		layer := layerOf(t, h, one, d, r.Layer)
		s.largest = s.largest.most(layer)
		for range r.Count {
			s.sums = append(s.sums, s.sums[len(s.sums)-1].plus(layer))
		}
	}
	return s
}

// layerOf asks anatomy about one layer.
func layerOf(t Task, h habits, one anatomy.Layout, d anatomy.Decoder, layer anatomy.Layer) layerSums {
	held := anatomy.Stage{Decoder: d, Held: []anatomy.Run{{Count: 1, Layer: layer}}}.Parameters().Held()
	s := layerSums{dense: float64(held.Tensor)/float64(one.TP) + float64(held.Copied), routed: float64(held.Routed)}
	for whole := range 2 {
		one.Whole = whole == 1
		for _, mode := range anatomy.Recomputes() {
			for _, k := range layer.Kept(d.Hidden, h.keeping(t, one, mode)) {
				if k.Name != anatomy.KeptExperts {
					s.kept[modeIndex(mode)][whole] += k.Bytes
				}
			}
		}
	}
	// The ends of experts grow with their ranks: what two ranks have more is one end.
	two := one
	two.ETP = 2
	ofExperts := func(l anatomy.Layout) float64 {
		return named(layer.Kept(d.Hidden, h.keeping(t, l, anatomy.NoRecompute)), anatomy.KeptExperts)
	}
	s.ends = ofExperts(two) - ofExperts(one)
	s.inner = ofExperts(one) - s.ends
	return s
}

func endOf(t Task, h habits, one anatomy.Layout, stage anatomy.Stage) endShares {
	p := stage.Parameters()
	if stage.Final {
		p = append(p, stage.Modules()...)
	}
	held := p.Held()
	e := endShares{dense: float64(held.Tensor)/float64(one.TP) + float64(held.Copied), routed: float64(held.Routed)}
	for whole := range 2 {
		one.Whole = whole == 1
		kept := stage.KeptAtEnds(h.keeping(t, one, anatomy.NoRecompute))
		e.logits[whole] = named(kept, anatomy.KeptHead)
		e.kept[whole] = anatomy.Sum(kept) - e.logits[whole]
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

func (s layerSums) plus(o layerSums) layerSums {
	return s.with(o, func(a, b float64) float64 { return a + b })
}

func (s layerSums) most(o layerSums) layerSums {
	return s.with(o, func(a, b float64) float64 { return max(a, b) })
}

func (s layerSums) with(o layerSums, f func(a, b float64) float64) layerSums {
	s.dense, s.routed, s.inner, s.ends = f(s.dense, o.dense), f(s.routed, o.routed), f(s.inner, o.inner), f(s.ends, o.ends)
	for mode := range s.kept {
		for whole := range s.kept[mode] {
			s.kept[mode][whole] = f(s.kept[mode][whole], o.kept[mode][whole])
		}
	}
	return s
}

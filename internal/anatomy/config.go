package anatomy

import "github.com/mistura-project/mistura/internal/model"

// Of describes a model of ours.
func Of(c model.Config) Decoder {
	attention := Attention{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim}
	if c.QKNorm {
		attention.QKNorm = HeadQKNorm
	}
	d := Decoder{Name: c.Name, Vocab: c.Vocab, Hidden: c.Dim, Tied: c.TiedEmbeddings}
	if c.DenseLayers > 0 {
		dense := Layer{Attention: attention, MLP: MLP{Width: c.DenseFFN, Gated: true}, Norms: 2}
		d.Layers = append(d.Layers, Run{min(c.DenseLayers, c.Layers), dense})
	}
	if c.Layers <= c.DenseLayers {
		return d
	}
	e := Experts{Count: c.Experts, TopK: c.TopK, Each: MLP{Width: c.ExpertFFN, Gated: true}, Correction: c.RouterBias}
	if c.SharedExperts > 0 {
		e.Shared = MLP{Width: c.SharedFFN(), Gated: true}
	}
	if c.RoutingWarmupTokens > 0 {
		e.State = 2
	}
	d.Layers = append(d.Layers, Run{c.Layers - c.DenseLayers, Layer{Attention: attention, Experts: &e, Norms: 2}})
	return d
}

package anatomy

import (
	"fmt"
	"strconv"

	"github.com/mistura-project/mistura/internal/fault"
)

// Bounds of what is taken for a model; the sums of what they allow fit an int64.
const (
	mostWidth  = 1 << 20
	mostTokens = 1 << 26
	mostLayers = 1 << 14
	mostCount  = 1 << 16 // experts, heads
	mostInAll  = 1e16    // parameters
)

// sizeOf is a size of a model under the name that errors give it.
type sizeOf struct {
	name        string
	n           int
	least, most int
}

// Validate refuses sizes that are no model's. Errors are *fault.Input.
func (d Decoder) Validate() error {
	sizes := []sizeOf{
		{"vocabulary", d.Vocab, 1, mostTokens}, {"width", d.Hidden, 1, mostWidth}, {"layers", d.Depth(), 1, mostLayers},
		{"learned positions", d.Positions, 0, mostTokens}, {"MTP modules", d.MTP, 0, mostCount},
	}
	for _, r := range d.Layers {
		sizes = append(sizes, sizeOf{"layers", r.Count, 1, mostLayers}, sizeOf{"norms", r.Norms, 0, mostCount})
		sizes = append(sizes, r.Attention.sizes()...)
		if r.Experts == nil {
			sizes = append(sizes, sizeOf{"MLP's width", r.MLP.Width, 1, mostWidth})
			continue
		}
		e := r.Experts
		sizes = append(sizes, sizeOf{"experts", e.Count, 1, mostCount}, sizeOf{"chosen experts", e.TopK, 1, e.Count},
			sizeOf{"expert's width", e.Each.Width, 1, mostWidth}, sizeOf{"shared experts' width", e.Shared.Width, 0, mostWidth})
	}
	for _, s := range sizes {
		if s.n < s.least || s.n > s.most {
			return &fault.Input{Where: s.name, Value: strconv.Itoa(s.n), Problem: "is out of range",
				Next: fmt.Sprintf("use a number from %d to %d", s.least, s.most)}
		}
	}
	if n := d.rough(); n > mostInAll {
		return &fault.Input{Where: "model", Value: d.Name, Problem: fmt.Sprintf("would have %.2g parameters", n), Next: "check layers, widths and experts"}
	}
	return nil
}

func (a Attention) sizes() []sizeOf {
	sizes := []sizeOf{{"heads", a.Heads, 1, mostCount}, {"window", a.Window, 0, mostTokens}}
	if m := a.Latent; m != nil {
		return append(sizes, sizeOf{"query rank", m.QueryRank, 0, mostWidth}, sizeOf{"key/value rank", m.KVRank, 1, mostWidth},
			sizeOf{"head's elements without position", m.Nope, 0, mostCount}, sizeOf{"rotary elements of a head", m.Rope, 0, mostCount},
			sizeOf{"head's values", m.Value, 1, mostCount})
	}
	return append(sizes, sizeOf{"key/value heads", a.KVHeads, 1, a.Heads}, sizeOf{"head's elements", a.HeadDim, 1, mostCount})
}

// rough is the number of parameters as floats, which no product runs out of.
func (d Decoder) rough() float64 {
	h := float64(d.Hidden)
	n := 2 * float64(d.Vocab+d.Positions) * h
	for _, r := range d.Layers {
		a := r.Attention
		layer := 4 * h * float64(a.Heads) * float64(max(a.QueryDim(), a.ValueDim()))
		if m := a.Latent; m != nil {
			layer += (h + float64(a.Heads)*float64(2*m.Nope+m.Rope+m.Value)) * float64(m.QueryRank+m.KVRank+m.Rope)
		}
		layer += 3 * h * float64(r.MLP.Width)
		if e := r.Experts; e != nil {
			layer += 3 * h * (float64(e.Count)*float64(e.Each.Width+1) + float64(e.Shared.Width))
		}
		n += float64(r.Count) * layer
		if d.MTP > 0 {
			n += float64(d.MTP) * (layer + 2*h*h) // the last layer is one of these
		}
	}
	return n
}

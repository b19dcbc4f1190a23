package anatomy

import (
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// Shape are the sizes that a table of published runs gives of a model. What such
// tables leave out, biases, norms, gates, ranks, follows from the model's name.
type Shape struct {
	Name        string
	Layers      int
	Hidden      int
	Heads       int
	KVHeads     int // 0: Heads
	FFN         int // of dense layers
	Experts     int // 0: none
	TopK        int
	Shared      int // experts
	ExpertFFN   int
	DenseLayers int // leading ones
	Vocab       int
	Positions   int // of models that learn them: the sequence that they were made for
	MTP         int
	Tied        *bool // nil: as usual in the model's family
	Gated       *bool // MLPs; nil: as usual in the family
}

// style is how a family of models is made.
type style struct {
	prefix string // of the name, as Family writes it
	make   func(d *Decoder, l *Layer)
	window int // of every other layer, the first among them; 0: none
}

// styles lists the families; the first whose name fits is taken, and what none fits
// is shaped like Llama.
func styles() []style {
	return []style{
		{"gptoss", gptOSSStyle, 128}, {"gpt", gptStyle, 0}, {"megatron", gptStyle, 0}, {"turing", gptStyle, 0}, {"mtnlg", gptStyle, 0}, {"opt", gptStyle, 0},
		{"mpt", gptStyle, 0}, {"bloom", gptStyle, 0}, {"pythia", gptStyle, 0}, {"nemotron", nemotronStyle, 0}, {"falcon", nemotronStyle, 0},
		{"deepseekv2lite", latentStyle(0), 0}, {"deepseekv2", latentStyle(1536), 0}, {"deepseekv3", latentStyle(1536), 0}, {"deepseekr1", latentStyle(1536), 0},
		{"kimik2", latentStyle(1536), 0}, {"moonlight", latentStyle(0), 0},
		{"qwen3", func(d *Decoder, l *Layer) { d.Positions, l.Attention.QKNorm, l.Attention.HeadDim = 0, HeadQKNorm, 128 }, 0},
		{"qwen", qwenStyle, 0}, {"olmoe", func(d *Decoder, l *Layer) { d.Positions, l.Attention.QKNorm = 0, WidthQKNorm }, 0},
	}
}

// Decoder describes the model. A size without which it cannot be counted is bad input.
func (s Shape) Decoder() (Decoder, error) {
	if err := s.complete(); err != nil {
		return Decoder{}, err
	}
	d := Decoder{Name: s.Name, Vocab: s.Vocab, Hidden: s.Hidden, MTP: s.MTP}
	l := Layer{Attention: Attention{Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.Hidden / s.Heads}, MLP: MLP{Width: s.FFN, Gated: true}, Norms: 2}
	if s.KVHeads == 0 {
		l.Attention.KVHeads = s.Heads
	}
	sparse := l
	sparse.MLP = MLP{}
	sparse.Experts = &Experts{Count: s.Experts, TopK: s.TopK, Each: MLP{Width: s.ExpertFFN, Gated: true}, Shared: MLP{Width: s.Shared * s.ExpertFFN, Gated: true}}
	window := 0
	for _, st := range styles() {
		if strings.HasPrefix(Family(s.Name), st.prefix) {
			d.Positions = s.Positions
			st.make(&d, &l)
			st.make(&d, &sparse)
			window = st.window
			break
		}
	}
	if s.Tied != nil {
		d.Tied = *s.Tied
	}
	if s.Gated != nil {
		l.MLP.Gated, sparse.Experts.Each.Gated, sparse.Experts.Shared.Gated = *s.Gated, *s.Gated, *s.Gated
	}
	switch {
	case s.Experts == 0:
		d.Layers = []Run{{s.Layers, l}}
	case s.DenseLayers == 0:
		d.Layers = []Run{{s.Layers, sparse}}
	default:
		d.Layers = []Run{{s.DenseLayers, l}, {s.Layers - s.DenseLayers, sparse}}
	}
	d.Layers = alternating(d.Layers, window)
	return d, d.Validate()
}

// Family is the name of a model by which its family is told: DeepSeek-V3 is deepseekv3.
func Family(name string) string {
	return strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(strings.ToLower(name))
}

// alternating gives every other layer a window, the first among them.
func alternating(runs []Run, window int) []Run {
	if window == 0 {
		return runs
	}
	var out []Run
	for _, r := range runs {
		for range min(r.Count, mostLayers) {
			l := r.Layer
			if len(out)%2 == 0 {
				l.Attention.Window = window
			}
			out = append(out, Run{1, l})
		}
	}
	return out
}

// complete names the first size that is missing.
func (s Shape) complete() error {
	needed := []sizeOf{{name: "layers", n: s.Layers}, {name: "hidden", n: s.Hidden}, {name: "heads", n: s.Heads}, {name: "vocab", n: s.Vocab}}
	if s.Experts == 0 || s.DenseLayers > 0 {
		needed = append(needed, sizeOf{name: "ffn", n: s.FFN})
	}
	if s.Experts > 0 {
		needed = append(needed, sizeOf{name: "topk", n: s.TopK}, sizeOf{name: "moe_ffn", n: s.ExpertFFN})
	}
	for _, size := range needed {
		if size.n < 1 {
			return &fault.Input{Where: size.name, Value: strconv.Itoa(size.n), Problem: "is missing, and " + s.Name + " cannot be counted without", Next: "add it"}
		}
	}
	return nil
}

// ownHead is the vocabulary of the models by which Megatron-LM showed its scaling in
// 2024, whose sizes say that the head is a matrix of its own.
const ownHead = 131072

// gptStyle: LayerNorm, biases, a plain MLP, learned positions, one embedding. GPT-Neo's
// windows are masks, which save no work.
func gptStyle(d *Decoder, l *Layer) {
	d.Tied, d.NormBias = d.Vocab != ownHead, true
	l.Attention.InBias, l.Attention.OutBias = true, true
	l.MLP.Gated, l.MLP.Bias = false, true
}

// nemotronStyle: squared ReLU, LayerNorm, rotary positions, no biases (arXiv 2402.16819, section 2).
func nemotronStyle(d *Decoder, l *Layer) { d.Positions, d.NormBias, l.MLP.Gated = 0, true, false }

func latentStyle(queryRank int) func(*Decoder, *Layer) {
	return func(d *Decoder, l *Layer) {
		d.Positions = 0
		l.Attention = Attention{Heads: l.Attention.Heads, Latent: &Latent{QueryRank: queryRank, KVRank: 512, Nope: 128, Rope: 64, Value: 128}}
	}
}

func qwenStyle(d *Decoder, l *Layer) {
	d.Positions, l.Attention.InBias = 0, true
	if l.Experts != nil {
		l.Experts.SharedGate = l.Experts.Shared.Width > 0
	}
}

func gptOSSStyle(d *Decoder, l *Layer) {
	d.Positions = 0
	l.Attention.HeadDim, l.Attention.InBias, l.Attention.OutBias, l.Attention.Sinks = 64, true, true, true
	if l.Experts != nil {
		l.Experts.Each.Bias, l.Experts.RouterBias = true, true
	}
}

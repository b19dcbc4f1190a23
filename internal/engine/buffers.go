package engine

import "github.com/mistura-project/mistura/internal/model"

// shape is the size of one pass: rows sequences of seq tokens.
type shape struct{ rows, seq int }

func (s shape) tokens() int { return s.rows * s.seq }

// activations are what one layer keeps from the forward for the backward pass.
type activations struct {
	x        []float32 // [N, D] input
	attnInv  []float32 // [N] 1/rms of x
	h        []float32 // [N, D] norm of x
	raw      []float32 // [N, (H+2G)d] before q/k norm; nil without QKNorm
	headInv  []float32 // [N, H+G] 1/rms of each raw query and key head; nil without QKNorm
	qkv      []float32 // [N, (H+2G)d] normed, turned to their positions; q scaled by 1/√d
	lse      []float32 // [N, H] log of the softmax denominators
	o        []float32 // [N, Hd] attention before its output projection
	mid      []float32 // [N, D] x plus attention
	mlpInv   []float32 // [N] 1/rms of mid
	m        []float32 // [N, D] norm of mid
	gateUp   []float32 // [N, 2F] of the wide MLP
	act      []float32 // [N, F] of the wide MLP, silu(gate)*up
	routing  routing
	groupGU  []float32 // [NK, 2F] of the routed experts, in group order
	groupAct []float32 // [NK, F]; the backward pass scales it by the weights in place
}

// passBuffers are shared by the layers: nothing in them outlives its phase and
// the next ones of the same layer.
type passBuffers struct {
	x        []float32 // [N, D] output of the last layer
	finalInv []float32 // [N]
	final    []float32 // [N, D] final norm, with NormHead scaled by 1/column norm
	logits   []float32 // [N, V], then their gradient
	loss     []float64 // [N] cross-entropy of each token
	colInv   []float32 // [D] 1/(column norm of the head + eps); nil without NormHead
	groupOut []float32 // [NK, D] outputs of the routed experts

	dx       []float32 // [N, D] gradient of a layer's output, then of its input
	dMid     []float32 // [N, D] gradient of mid
	dH, dM   []float32 // [N, D] gradients of h and m; dH also of the final norm
	dO       []float32 // [N, Hd]
	dQKV     []float32 // [N, (H+2G)d]
	dRaw     []float32 // [N, (H+2G)d] before q/k norm; nil without QKNorm
	dGateUp  []float32 // [N, 2F] of the wide MLP
	dRouter  []float32 // [N, E] gradient of the router's logits
	dWeight  []float32 // [N, K] gradient of the chosen experts' weights
	groupDY  []float32 // [NK, D] gradient of the MLP's output, gathered
	groupX   []float32 // [NK, D] its input, gathered
	groupDGU []float32 // [NK, 2F]
	groupDX  []float32 // [NK, D] gradient of groupX
}

// scratch is private to a worker.
type scratch struct {
	row     []float32 // [D]
	experts []float32 // [E]
	chooser chooser
	rows    []float32 // [max(tokenBlock, expertBlock), max(D, F)]
	scores  []float32 // [queryBlock, T]
	grads   []float32 // [queryBlock, T]
}

func floats(n int) []float32 { return make([]float32, n) }

func newActivations(cfg model.Config, l int, s shape) activations {
	n, qkv := s.tokens(), cfg.QueryWidth()+2*cfg.KVWidth()
	a := activations{
		x: floats(n * cfg.Dim), attnInv: floats(n), h: floats(n * cfg.Dim),
		qkv: floats(n * qkv), lse: floats(n * cfg.Heads), o: floats(n * cfg.QueryWidth()),
		mid: floats(n * cfg.Dim), mlpInv: floats(n), m: floats(n * cfg.Dim),
	}
	if cfg.QKNorm {
		a.raw, a.headInv = floats(n*qkv), floats(n*(cfg.Heads+cfg.KVHeads))
	}
	wide := wideWidth(cfg, l)
	a.gateUp, a.act = floats(n*2*wide), floats(n*wide)
	if !cfg.Dense(l) {
		slots := n * cfg.TopK
		a.routing = newRouting(cfg, s)
		a.groupGU, a.groupAct = floats(slots*2*cfg.ExpertFFN), floats(slots*cfg.ExpertFFN)
	}
	return a
}

// wideWidth is the inner width of the MLP that all tokens of a layer pass.
func wideWidth(cfg model.Config, l int) int {
	if cfg.Dense(l) {
		return cfg.DenseFFN
	}
	return cfg.SharedFFN()
}

// maxWide is the largest wideWidth of any layer.
func maxWide(cfg model.Config) int {
	return max(wideWidth(cfg, 0), wideWidth(cfg, cfg.Layers-1))
}

func newPassBuffers(cfg model.Config, s shape) passBuffers {
	n := s.tokens()
	b := passBuffers{
		x: floats(n * cfg.Dim), finalInv: floats(n), final: floats(n * cfg.Dim),
		logits: floats(n * cfg.Vocab), loss: make([]float64, n),
		dx: floats(n * cfg.Dim), dMid: floats(n * cfg.Dim), dH: floats(n * cfg.Dim), dM: floats(n * cfg.Dim),
		dO: floats(n * cfg.QueryWidth()), dQKV: floats(n * (cfg.QueryWidth() + 2*cfg.KVWidth())),
		dGateUp: floats(n * 2 * maxWide(cfg)),
	}
	if cfg.QKNorm {
		b.dRaw = floats(n * (cfg.QueryWidth() + 2*cfg.KVWidth()))
	}
	if cfg.NormHead {
		b.colInv = floats(cfg.Dim)
	}
	if cfg.DenseLayers < cfg.Layers {
		slots := n * cfg.TopK
		b.dRouter, b.dWeight = floats(n*cfg.Experts), floats(slots)
		b.groupOut, b.groupDY = floats(slots*cfg.Dim), floats(slots*cfg.Dim)
		b.groupX, b.groupDX = floats(slots*cfg.Dim), floats(slots*cfg.Dim)
		b.groupDGU = floats(slots * 2 * cfg.ExpertFFN)
	}
	return b
}

func newScratch(cfg model.Config, s shape) scratch {
	width := max(cfg.Dim, cfg.ExpertFFN, maxWide(cfg))
	return scratch{
		row:     floats(max(cfg.Dim, cfg.HeadDim)),
		experts: floats(cfg.Experts),
		chooser: newChooser(cfg),
		rows:    floats(max(tokenBlock, expertBlock) * width),
		scores:  floats(queryBlock * s.seq),
		grads:   floats(queryBlock * s.seq),
	}
}

package engine

import "github.com/mistura-project/mistura/internal/model"

// Memory is what an engine and its optimiser allocate, in bytes.
type Memory struct {
	Weights, Gradients, Moments int64
	Activations                 int64 // what a pass keeps for its backward part
	Buffers                     int64 // what layers share, and each worker's own
}

// Total is the sum.
func (m Memory) Total() int64 {
	return m.Weights + m.Gradients + m.Moments + m.Activations + m.Buffers
}

// MemoryOf counts the memory of training with calls of rows sequences of seq tokens.
// It is arithmetic on what buffers.go and router.go allocate; a test holds it to them.
func MemoryOf(cfg model.Config, rows, seq, threads int) Memory {
	state := cfg.Bytes()
	s := shape{min(rows, max(1, groupTokens/seq)), seq}
	m := Memory{Weights: state.Weights, Gradients: state.Gradients, Moments: state.Moments}
	for l := range cfg.Layers {
		m.Activations += 4 * activationFloats(cfg, l, s)
	}
	m.Buffers = 4*(passFloats(cfg, s)+int64(threads)*scratchFloats(cfg, s)+2*int64(seq)*int64(cfg.Turned())) +
		int64(threads)*workspaceBytes
	return m
}

// workspaceBytes is about what the product of a kernel set packs its blocks into, a
// worker.
const workspaceBytes = 4 * (256*1024 + 256*192)

func activationFloats(cfg model.Config, l int, s shape) int64 {
	n, qkv := int64(s.tokens()), int64(cfg.QueryWidth()+2*cfg.KVWidth())
	f := n * (4*int64(cfg.Dim) + 2 + qkv + int64(cfg.Heads) + int64(cfg.QueryWidth()) + 3*int64(wideWidth(cfg, l)))
	if cfg.QKNorm {
		f += n * (qkv + int64(cfg.Heads+cfg.KVHeads))
	}
	if !cfg.Dense(l) {
		slots := n * int64(cfg.TopK)
		f += 3*slots*int64(cfg.ExpertFFN) + routingFloats(cfg, s)
	}
	return f
}

// routingFloats counts numbers of 4 bytes, whatever they are.
func routingFloats(cfg model.Config, s shape) int64 {
	n, experts := int64(s.tokens()), int64(cfg.Experts)
	slots := n * int64(cfg.TopK)
	return 2*n*experts + 2*n + 4*slots + int64(s.rows)*experts + experts + 1 + 3*(slots/expertBlock+experts)
}

func passFloats(cfg model.Config, s shape) int64 {
	n, dim, qkv := int64(s.tokens()), int64(cfg.Dim), int64(cfg.QueryWidth()+2*cfg.KVWidth())
	f := n * (6*dim + int64(cfg.Vocab) + 3 + int64(cfg.QueryWidth()) + qkv + 2*int64(maxWide(cfg)))
	if cfg.QKNorm {
		f += n * qkv
	}
	if cfg.DenseLayers < cfg.Layers {
		slots := n * int64(cfg.TopK)
		f += n*int64(cfg.Experts) + slots*(1+4*dim+2*int64(cfg.ExpertFFN))
	}
	return f
}

func scratchFloats(cfg model.Config, s shape) int64 {
	width := max(cfg.Dim, cfg.ExpertFFN, maxWide(cfg))
	return int64(max(cfg.Dim, cfg.HeadDim)+cfg.Experts) + int64(max(tokenBlock, expertBlock)*width) + 2*queryBlock*int64(s.seq)
}

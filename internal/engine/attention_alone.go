package engine

import (
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/model"
)

// Attention is the causal attention of one sequence by itself, in the phases that a
// layer has for it, as measurements need it. Its methods must not be called concurrently.
type Attention struct {
	engine *Engine
	layer  *layer
}

// NewAttention gives attention of so many heads of an even width over tokens. What a
// layer has besides is as small as can be. The caller must Close it.
func NewAttention(set *kernel.Set, threads, tokens, heads, width int) (*Attention, error) {
	e, err := New(model.Config{
		Vocab: 2, Dim: 1, Layers: 1, DenseLayers: 1, DenseFFN: 1, Heads: heads, KVHeads: heads, HeadDim: width,
		Router: model.Softmax, RopeTheta: 1e4, NormEps: 1e-6, InitStd: 1,
	}, Options{Threads: threads, Kernel: set})
	if err != nil {
		return nil, err
	}
	e.reserve(shape{1, tokens})
	e.load(Batch{Tokens: make([]int32, tokens+1), Rows: 1}, 0)
	a := &Attention{engine: e, layer: e.layers[0]}
	fill(a.layer.acts.qkv)
	fill(e.dO)
	return a, nil
}

// fill gives values without meaning, around 0.
func fill(x []float32) {
	for i := range x {
		x[i] = float32(i*7%23-11) / 23
	}
}

// Close ends the workers.
func (a *Attention) Close() { a.engine.Close() }

// Forward computes the outputs from queries, keys and values.
func (a *Attention) Forward() { a.layer.run(a.layer.cfg.Heads, a.layer.tasks.attend) }

// Backward computes the gradients of queries, keys and values. Forward goes before.
func (a *Attention) Backward() { a.layer.run(a.layer.cfg.KVHeads, a.layer.tasks.attendBackward) }

package engine

import (
	"math"
	"strings"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// InitParams fills params, which must have cfg.Size() elements, with initial
// weights: gains are 1, state is 0, everything else is normal with deviation InitStd, the
// projections that write to the residual stream (attention output, down) with
// InitStd/√(2·Layers) as in GPT-2. Element i of tensor t in model order is number
// i of the stream (seed, Init, t), so the weights depend on nothing else.
func InitParams(cfg model.Config, seed uint64, params []float32) {
	for index, t := range cfg.Tensors() {
		x := params[t.Offset : t.Offset+t.Size()]
		if t.Kind == model.State {
			clear(x)
			continue
		}
		if t.Kind == model.Norm {
			for i := range x {
				x[i] = 1
			}
			continue
		}
		std, stream := initStd(cfg, t), rng.New(seed, rng.Init, uint64(index))
		for i := range x {
			x[i] = float32(std * stream.Normal())
		}
	}
}

func initStd(cfg model.Config, t model.Tensor) float64 {
	if strings.HasSuffix(t.Name, ".o") || strings.HasSuffix(t.Name, ".down") {
		return cfg.InitStd / math.Sqrt(float64(2*cfg.Layers))
	}
	return cfg.InitStd
}

package gate

import (
	"math"
	"strings"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// Sharpen makes of the first weights of a run the weights of its probe. At
// initialisation attention is all but uniform, experts add little and routers hardly
// prefer one to another: a model without attention has the same loss to a part in two
// thousand. So every matrix is multiplied by the power of two that brings its output,
// for inputs of length 1 an element, nearest to a gain that matters; and the gains of
// norms, all 1, become 3/4 or 5/4 by a draw from the seed. Both are exact, so that all hosts
// have the same bits. State stays as it is.
func Sharpen(cfg model.Config, seed uint64, params []float32) {
	for i, t := range cfg.Tensors() {
		x := params[t.Offset : t.Offset+t.Size()]
		switch t.Kind {
		case model.State:
		case model.Norm:
			unlike(x, rng.New(seed, rng.GateWeights, uint64(i)))
			if t.Layer < 0 && cfg.NormHead {
				scale(x, nearest(logits*math.Sqrt(float64(cfg.Vocab)/float64(cfg.Dim))))
			}
		default:
			scale(x, factor(cfg, t))
		}
	}
}

// logits is the deviation that logits are to have, so that the loss depends on what the
// layers do. NormHead takes the head's own scale away; there the last norm's gains are
// multiplied.
const logits = 2

// gain is the deviation that a tensor's output is to have.
func gain(t model.Tensor) float64 {
	switch {
	case strings.HasSuffix(t.Name, ".q"), strings.HasSuffix(t.Name, ".k"):
		return 1.5 // scores deviate by the square of it
	case t.Kind == model.Router:
		return 2
	case t.Kind == model.Head:
		return logits
	default:
		return 1
	}
}

// factor is the power of two nearest to what gives a tensor its gain. An embedding is
// looked up: its fan-in is 1. Its scale is then a head's too, if it is tied.
func factor(cfg model.Config, t model.Tensor) float32 {
	deviation := cfg.InitStd
	if strings.HasSuffix(t.Name, ".o") || strings.HasSuffix(t.Name, ".down") {
		deviation /= math.Sqrt(float64(2 * cfg.Layers))
	}
	fanIn := t.Shape[len(t.Shape)-1]
	if t.Kind == model.Embedding && !cfg.TiedEmbeddings {
		fanIn = 1
	}
	if deviation <= 0 {
		return 1
	}
	return nearest(gain(t) / (deviation * math.Sqrt(float64(fanIn))))
}

// nearest is the power of two nearest to x.
func nearest(x float64) float32 { return float32(math.Ldexp(1, int(math.Round(math.Log2(x))))) }

func scale(x []float32, f float32) {
	for i := range x {
		x[i] *= f
	}
}

// unlike moves gains of 1 by a quarter, up or down.
func unlike(x []float32, draws *rng.Stream) {
	for i := range x {
		if draws.Uint32()&1 == 1 {
			x[i] *= 0.75
		} else {
			x[i] *= 1.25
		}
	}
}

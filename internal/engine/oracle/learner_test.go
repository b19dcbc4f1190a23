package oracle

import (
	"math"
	"strings"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
)

// losses of a batch: cross-entropy summed over targets, router losses as means.
type losses struct {
	targets          int
	loss, balance, z float64
}

// learner is what is compared with the oracle: the twin, or the engine on a
// kernel set.
type learner interface {
	// gradient computes a batch with its imposed choices; grads is of the sum over
	// targets.
	gradient(b engine.Batch) (l losses, grads []float64, err error)
	// step applies AdamW to the gradient, divided by the targets, and gives the
	// gradient's norm before clipping.
	step(targets int, rate float64) (norm float64)
	// own gives the experts that the model chooses by itself.
	own(b engine.Batch) ([][]int32, error)
	// params are the weights as they are.
	params() []float64
	close()
}

// twin is the name of the scalar twin among those of kernel sets.
const twin = "twin"

// newLearner gives the learner of that name.
func (s subject) newLearner(name string, params []float32) (learner, error) {
	if name == twin {
		n := s.cfg.Size()
		return &twinLearner{Model: scalar.NewModel[float64](s.cfg, params), m: make([]float64, n), v: make([]float64, n)}, nil
	}
	set, err := kernel.New(name)
	if err != nil {
		return nil, err
	}
	e, err := engine.New(s.cfg, engine.Options{Threads: 2, Kernel: set})
	if err != nil {
		return nil, err
	}
	copy(e.Params(), params)
	return &engineLearner{e, engine.NewAdamWOn(set, s.cfg, adamw(), 1)}, nil
}

// twinLearner is the float64 twin with an optimiser as plain as itself.
type twinLearner struct {
	*scalar.Model[float64]
	m, v    []float64
	steps   int
	choices [][]int32 // of the last batch
}

// batch is a batch as the twin takes it.
func (l *twinLearner) batch(b engine.Batch) scalar.Batch {
	w := b.Warmup
	x := scalar.Batch{Tokens: b.Tokens, Rows: b.Rows, Boundaries: b.Boundaries, EndToken: b.EndToken, Choices: b.Choices}
	if w != nil {
		s := subject{cfg: l.Config, rows: b.Rows, seq: len(b.Tokens)/b.Rows - 1}
		n := s.noise(w)
		x.Warmup = &scalar.Warmup{Alpha: n.Alpha, Eps: func(row, layer, token, expert int) float64 { return n.Eps[layer][row][token][expert] }}
	}
	return x
}

func (l *twinLearner) gradient(b engine.Batch) (losses, []float64, error) {
	clear(l.Grads)
	r := l.Run(l.batch(b), true)
	l.choices = r.Choices
	routers := float64(b.Rows * max(1, l.Config.Layers-l.Config.DenseLayers))
	return losses{r.Tokens, r.Loss, r.Balance / routers, r.Z / routers}, l.Grads, nil
}

func (l *twinLearner) step(targets int, rate float64) (norm float64) {
	for i := range l.Grads {
		l.Grads[i] /= float64(targets)
	}
	norm = math.Sqrt(scalar.Dot(l.Grads, l.Grads))
	clip := min(1, adamw().ClipNorm/(norm+1e-6))
	l.steps++
	for _, tensor := range l.Config.Tensors() {
		if tensor.Kind == model.State {
			continue
		}
		o := scalar.AdamW{Beta1: adamw().Beta1, Beta2: adamw().Beta2, Eps: adamw().Eps, Rate: rate}
		if tensor.Decay {
			o.Decay = adamw().WeightDecay
		}
		for i := tensor.Offset; i < tensor.Offset+tensor.Size(); i++ {
			l.Params[i], l.m[i], l.v[i] = o.Step(l.Params[i], clip*l.Grads[i], l.m[i], l.v[i], l.steps)
		}
	}
	l.moveBias()
	return norm
}

// moveBias moves each router's bias towards experts that were chosen less often
// than the mean.
func (l *twinLearner) moveBias() {
	for _, tensor := range l.Config.Tensors() {
		if !strings.HasSuffix(tensor.Name, ".router_bias") {
			continue
		}
		chosen := l.choices[tensor.Layer]
		mean, counts := float64(len(chosen))/float64(l.Config.Experts), make([]float64, l.Config.Experts)
		for _, e := range chosen {
			counts[e]++
		}
		for e, n := range counts {
			if n != mean {
				l.Params[tensor.Offset+e] += math.Copysign(l.Config.BiasRate, mean-n)
			}
		}
	}
}

func (l *twinLearner) params() []float64 { return l.Params }

func (l *twinLearner) own(b engine.Batch) ([][]int32, error) {
	return l.Run(l.batch(b), false).Choices, nil
}

func (l *twinLearner) close() {}

// engineLearner is the engine.
type engineLearner struct {
	*engine.Engine
	adamw *engine.AdamW
}

func (l *engineLearner) gradient(b engine.Batch) (losses, []float64, error) {
	l.ZeroGrads()
	s, err := l.Backward(b)
	return losses{s.Tokens, s.LossSum, s.BalanceLoss, s.ZLoss}, widened(l.Grads()), err
}

func (l *engineLearner) params() []float64 { return widened(l.Params()) }

func widened(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func (l *engineLearner) step(targets int, rate float64) (norm float64) {
	l.ScaleGrads(1 / float32(targets))
	defer l.UpdateState()
	return l.adamw.Step(l.Params(), l.Grads(), rate).GradNorm
}

func (l *engineLearner) own(b engine.Batch) ([][]int32, error) {
	_, _, err := l.Loss(b)
	return l.Choices(), err
}

func (l *engineLearner) close() { l.Close() }

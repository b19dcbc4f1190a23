package oracle

import (
	"math"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// subject is a configuration, and what it is run on.
type subject struct {
	name      string
	cfg       model.Config
	rows, seq int
	end       *int32 // the token that ends a document; nil: sequences are not cut
	steps     int    // of the training run that is compared; 0: none
	nudged    int    // runs of the oracle from nudged weights, to compare the end of the training with
}

// subjects are all configurations that the engine is tested on, some of them with
// documents, and larger ones whose sequences reach across the engine's blocks.
func subjects(t testing.TB) []subject {
	t.Helper()
	var all []subject
	for _, cfg := range enginetest.Configs() {
		s := subject{name: cfg.Name, cfg: cfg, rows: 3, seq: 21}
		all = append(all, s)
		switch cfg.Name {
		case "plain", "grouped queries, no shared expert", "everything":
			s.name += ", documents"
			s.end = new(int32)
			*s.end = 3
			all = append(all, s)
		}
	}
	tiny, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	end := int32('\n')
	all = append(all,
		subject{name: "ling-tiny", cfg: tiny, rows: 2, seq: 165},
		subject{name: "ling-tiny, documents", cfg: tiny, rows: 2, seq: 165, end: &end})
	for i := range all {
		all[i].setTrace()
	}
	return all
}

// setTrace says how long the training is. All of it for all configurations takes
// minutes, which is for make oracle; by default most stop at the 50th step.
func (s *subject) setTrace() {
	s.steps = shortTrace
	switch {
	case *tableFile != "" || s.name == "sigmoid, bias, scaled weights":
		s.steps, s.nudged = traceSteps, nudgedRuns
	case s.name == "everything, documents":
		s.steps = traceSteps
	case s.end != nil:
		s.steps = 0
	}
}

// params are weights so large that every part of the model matters to the loss: at
// initialisation a missing attention would move it by less than 0.1 %.
func (s subject) params() []float32 {
	return s.draw(0, 0.4, 0)
}

// start are weights to train from: gains near 1, so that the run neither stands
// still nor falls apart.
func (s subject) start() []float32 { return s.draw(1, 0.2, 1) }

func (s subject) draw(index uint64, deviation, gain float64) []float32 {
	params, stream := make([]float32, s.cfg.Size()), rng.New(3, rng.Test, index)
	for _, tensor := range s.cfg.Tensors() {
		for i := range tensor.Size() {
			x := deviation * stream.Normal()
			if tensor.Kind == model.Norm {
				x += gain
			}
			if tensor.Kind == model.State && strings.HasSuffix(tensor.Name, ".router_stats") && i == 1 {
				x = math.Abs(x) // a variance
			}
			params[tensor.Offset+i] = float32(x)
		}
	}
	return params
}

// tokens are random; with documents some of them are ends.
func (s subject) tokens(index uint64, rows, seq int) []int32 {
	stream, tokens := rng.New(1, rng.Test, index), make([]int32, rows*(seq+1))
	for i := range tokens {
		tokens[i] = int32(stream.Uint32() % uint32(s.cfg.Vocab))
		if s.end != nil && stream.Uint32()%16 == 0 {
			tokens[i] = *s.end
		}
	}
	return tokens
}

func (s subject) batch(tokens []int32, rows int) engine.Batch {
	b := engine.Batch{Tokens: tokens, Rows: rows}
	if s.end != nil {
		b.Boundaries, b.EndToken = true, *s.end
	}
	return b
}

// warmup is the middle of a routing warm-up, if the model has one.
func (s subject) warmup(rows int) *engine.RoutingWarmup {
	if s.cfg.RoutingWarmupTokens == 0 {
		return nil
	}
	w := &engine.RoutingWarmup{Tokens: int64(s.cfg.RoutingWarmupTokens) * 3 / 5, Seed: 17}
	for row := range rows {
		w.Samples = append(w.Samples, 1000+uint64(row))
	}
	return w
}

// noise is the warm-up as the oracle takes it: all that the engine draws, one
// number after the other.
func (s subject) noise(w *engine.RoutingWarmup) *noise {
	if w == nil {
		return nil
	}
	n := &noise{Alpha: float64(w.Tokens) / float64(s.cfg.RoutingWarmupTokens), Eps: map[int][][][]float64{}}
	for _, sample := range w.Samples {
		stream := rng.New(w.Seed, rng.Routing, sample)
		for layer := range s.cfg.Layers {
			sequence := make([][]float64, s.seq)
			for t := range sequence {
				for range s.cfg.Experts {
					sequence[t] = append(sequence[t], stream.Normal())
				}
			}
			n.Eps[layer] = append(n.Eps[layer], sequence)
		}
	}
	return n
}

// Training runs are short sequences, in turn from a few batches.
const (
	traceSteps   = 200
	traceBatches = 4
	traceRows    = 4
	traceSeq     = 16
	nudgedRuns   = 5
)

func (s subject) traceTokens() (batches [][]int32) {
	for i := range traceBatches {
		batches = append(batches, s.tokens(100+uint64(i), traceRows, traceSeq))
	}
	return batches
}

// schedule reaches its warm-up, its plateau and its decay within the trace.
func schedule() engine.Schedule {
	const tokens = traceSteps * traceRows * traceSeq
	return engine.Schedule{Shape: engine.WSD, PeakRate: 1e-3, FinalRate: 1e-4,
		WarmupTokens: tokens / 10, DecayFromTokens: tokens * 8 / 10, TotalTokens: tokens}
}

func adamw() engine.AdamWConfig {
	return engine.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, ClipNorm: 1}
}

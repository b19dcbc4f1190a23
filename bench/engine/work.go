package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/mistura-project/mistura/bench/peer"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// Both sides train at this rate and cycle through as many batches of random tokens.
const (
	rate    = 1e-4
	batches = 8
)

// work is one model with its weights and batches, in memory and in files.
type work struct {
	o      options
	cfg    model.Config
	kernel *kernel.Set
	params []float32
	tokens []int32 // [batches, rows, seq+1]

	paramsFile, tokensFile string
}

func newWork(cfg model.Config, o options, dir string) (*work, error) {
	set, err := kernel.FromEnvironment()
	if err != nil {
		return nil, err
	}
	w := &work{o: o, cfg: cfg, kernel: set, params: make([]float32, cfg.Size()),
		paramsFile: filepath.Join(dir, cfg.Name+".params"), tokensFile: filepath.Join(dir, cfg.Name+".tokens")}
	engine.InitParams(cfg, 1, w.params)
	stream := rng.New(1, rng.Test, 0)
	for range batches * o.rows * (o.seq + 1) {
		w.tokens = append(w.tokens, int32(stream.Uint32()%uint32(cfg.Vocab)))
	}
	if err := writeFile(w.paramsFile, w.params); err != nil {
		return nil, err
	}
	return w, writeFile(w.tokensFile, w.tokens)
}

func writeFile(path string, data any) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := binary.Write(f, binary.LittleEndian, data); err != nil {
		f.Close()
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Close()
}

// batch is number i of the batches that both sides cycle through.
func (w *work) batch(i int) []int32 {
	n := w.o.rows * (w.o.seq + 1)
	i %= batches
	return w.tokens[i*n : (i+1)*n]
}

// own is the engine's side.
type own struct {
	*work
	engine *engine.Engine
	adam   *engine.AdamW
	steps  int
}

func (w *work) engine(threads int) (*own, error) {
	e, err := engine.New(w.cfg, engine.Options{Threads: threads, Kernel: w.kernel})
	if err != nil {
		return nil, err
	}
	copy(e.Params(), w.params)
	adam := engine.NewAdamWOn(w.kernel, w.cfg, engine.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, ClipNorm: 1}, threads)
	return &own{work: w, engine: e, adam: adam}, nil
}

func (o *own) close() { o.engine.Close() }

// step gives the mean loss and the gradient norm.
func (o *own) step() (loss, norm float64, err error) {
	o.engine.ZeroGrads()
	b, err := o.engine.Backward(engine.Batch{Tokens: o.batch(o.steps), Rows: o.o.rows})
	if err != nil {
		return 0, 0, err
	}
	o.steps++
	o.engine.ScaleGrads(1 / float32(b.Tokens))
	s := o.adam.Step(o.engine.Params(), o.engine.Grads(), rate)
	return b.LossSum / float64(b.Tokens), s.GradNorm, nil
}

// speed trains for about the given time and gives tokens per second.
func (o *own) speed(seconds float64) (float64, error) {
	began, steps := time.Now(), 0
	for time.Since(began).Seconds() < seconds {
		if _, _, err := o.step(); err != nil {
			return 0, err
		}
		steps++
	}
	return float64(steps*o.o.rows*o.o.seq) / time.Since(began).Seconds(), nil
}

// agreed is how far the first steps of both sides are apart, relatively.
type agreed struct {
	torch      string
	loss, norm float64
}

// agree fails unless both sides compute the same.
func (w *work) agree() (agreed, error) {
	own, err := w.engine(runtime.NumCPU())
	if err != nil {
		return agreed{}, err
	}
	defer own.close()
	loss, norm, err := own.step()
	if err != nil {
		return agreed{}, err
	}
	p, err := w.start(setting{Threads: 1, CoreType: peer.CoreTypes()[0], Optimizer: "flat"})
	if err != nil {
		return agreed{}, err
	}
	defer p.Close()
	r, err := p.run(0)
	if err != nil {
		return agreed{}, err
	}
	a := agreed{torch: r.Torch, loss: difference(loss, r.Loss), norm: difference(norm, r.GradientNorm)}
	if !(a.loss < agreement && a.norm < agreement) {
		return a, fmt.Errorf("not the same computation: loss %v and %v, gradient norm %v and %v", loss, r.Loss, norm, r.GradientNorm)
	}
	return a, nil
}

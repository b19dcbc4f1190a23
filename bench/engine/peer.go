package main

import (
	"fmt"
	"os"

	"github.com/mistura-project/mistura/bench/peer"
	"github.com/mistura-project/mistura/internal/model"
)

// setting is what the peer is told.
type setting struct {
	Threads   int    `json:"threads"`
	CoreType  string `json:"core_type"` // of OpenBLAS
	Optimizer string `json:"optimizer"`
}

func (s setting) String() string {
	return fmt.Sprintf("%d threads, %s, %s", s.Threads, s.CoreType, s.Optimizer)
}

// tried is a setting with its speed in the search.
type tried struct {
	setting
	Tokens float64 `json:"tokens_per_second"`
}

// search tries every setting of the peer.
func (w *work) search() ([]tried, error) {
	var all []tried
	for _, threads := range threadCounts() {
		for _, core := range peer.CoreTypes() {
			for _, optimizer := range []string{"flat", "foreach"} {
				s := setting{threads, core, optimizer}
				tokens, err := w.try(s)
				if err != nil {
					return nil, err
				}
				fmt.Fprintf(os.Stderr, "%s: PyTorch with %s: %.0f tokens/s\n", w.cfg.Name, s, tokens)
				all = append(all, tried{s, tokens})
			}
		}
	}
	return all, nil
}

func (w *work) try(s setting) (float64, error) {
	p, err := w.start(s)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if _, err := p.run(2); err != nil {
		return 0, err
	}
	return p.speed(w.o.seconds)
}

// best is the quickest setting with as many threads; 0: of all.
func best(all []tried, threads int) setting {
	var b tried
	for _, t := range all {
		if (threads == 0 || t.Threads == threads) && t.Tokens > b.Tokens {
			b = t
		}
	}
	return b.setting
}

// job is the peer's first line.
type job struct {
	setting
	Model   model.Config `json:"model"`
	Tensors []tensor     `json:"tensors"`
	Params  string       `json:"params"`
	Tokens  string       `json:"tokens"`
	Rows    int          `json:"rows"`
	Seq     int          `json:"seq"`
	Rate    float64      `json:"rate"`
}

type tensor struct {
	Name   string `json:"name"`
	Shape  []int  `json:"shape"`
	Offset int    `json:"offset"`
}

// torch is a running PyTorch.
type torch struct {
	*peer.Process
	w     *work
	steps float64 // per second, of the last run
}

// answer is what it says of a run of some steps.
type answer struct {
	Seconds      float64 `json:"seconds"`
	Loss         float64 `json:"loss"`
	GradientNorm float64 `json:"gradient_norm"`
	Torch        string  `json:"torch"`
}

func (w *work) start(s setting) (*torch, error) {
	p, err := peer.Start("PyTorch", w.o.python, peerProgram(), s.CoreType, s.Threads)
	if err != nil {
		return nil, err
	}
	j := job{setting: s, Model: w.cfg, Params: w.paramsFile, Tokens: w.tokensFile, Rows: w.o.rows, Seq: w.o.seq, Rate: rate}
	for _, t := range w.cfg.Tensors() {
		j.Tensors = append(j.Tensors, tensor{t.Name, t.Shape, t.Offset})
	}
	if err := p.Tell(j); err != nil {
		p.Close()
		return nil, err
	}
	return &torch{Process: p, w: w}, nil
}

// run trains so many steps; 0 gives loss and gradient norm of the first batch and changes nothing.
func (p *torch) run(steps int) (answer, error) {
	var a answer
	question := struct {
		Steps int `json:"steps"`
	}{steps}
	if err := p.Ask(question, &a); err != nil {
		return a, err
	}
	p.steps = float64(steps) / a.Seconds
	return a, nil
}

// speed trains for about the given time and gives tokens per second. It comes after run.
func (p *torch) speed(seconds float64) (float64, error) {
	if p.steps == 0 {
		if _, err := p.run(2); err != nil {
			return 0, err
		}
	}
	if _, err := p.run(max(1, int(seconds*p.steps))); err != nil {
		return 0, err
	}
	return p.steps * float64(p.w.o.rows*p.w.o.seq), nil
}

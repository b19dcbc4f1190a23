package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/mistura-project/mistura/internal/engine/kernel"
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

// coreTypes are OpenBLAS's kernels for this processor. It takes one that the processor
// cannot run at its word and dies.
func coreTypes() []string {
	types := []string{"Haswell", "Zen"}
	if slices.Contains(kernel.Available(), "avx512") {
		types = append(types, "SkylakeX")
	}
	return types
}

// search tries every setting of the peer.
func (w *work) search() ([]tried, error) {
	var all []tried
	for _, threads := range threadCounts() {
		for _, core := range coreTypes() {
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
	defer p.close()
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

// peer is a running PyTorch.
type peer struct {
	w     *work
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	steps float64 // per second, of the last run
}

// answer is what it says of a run of some steps.
type answer struct {
	Seconds      float64 `json:"seconds"`
	Loss         float64 `json:"loss"`
	GradientNorm float64 `json:"gradient_norm"`
	Torch        string  `json:"torch"`
}

func (w *work) start(s setting) (*peer, error) {
	cmd := exec.Command(w.o.python, peerProgram())
	cmd.Env = append(os.Environ(), "OPENBLAS_CORETYPE="+s.CoreType, fmt.Sprintf("OMP_NUM_THREADS=%d", s.Threads))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting PyTorch: %w", err)
	}
	p := &peer{w: w, cmd: cmd, in: in, out: bufio.NewReader(out)}
	j := job{setting: s, Model: w.cfg, Params: w.paramsFile, Tokens: w.tokensFile, Rows: w.o.rows, Seq: w.o.seq, Rate: rate}
	for _, t := range w.cfg.Tensors() {
		j.Tensors = append(j.Tensors, tensor{t.Name, t.Shape, t.Offset})
	}
	if err := json.NewEncoder(in).Encode(j); err != nil {
		p.close()
		return nil, fmt.Errorf("telling PyTorch the work: %w", err)
	}
	return p, nil
}

// run trains so many steps; 0 gives loss and gradient norm of the first batch and changes nothing.
func (p *peer) run(steps int) (answer, error) {
	if _, err := fmt.Fprintf(p.in, "{\"steps\": %d}\n", steps); err != nil {
		return answer{}, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return answer{}, fmt.Errorf("PyTorch gave no answer: %w", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("PyTorch answered %q: %w", line, err)
	}
	p.steps = float64(steps) / a.Seconds
	return a, nil
}

// speed trains for about the given time and gives tokens per second. It comes after run.
func (p *peer) speed(seconds float64) (float64, error) {
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

// close ends the peer: the end of its stdin is the end of its work.
func (p *peer) close() {
	p.in.Close()
	p.cmd.Wait() //nolint:errcheck // its answers have said what mattered
}

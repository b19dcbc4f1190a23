// Command engine compares a training step of the native engine with the same step
// in PyTorch: same model, weights, batches and optimiser, in turn on this machine.
//
//	go run ./bench/engine -models ling-nano,ling-micro,ling-mini -pairs 7
//
// PyTorch is given the best of its settings (threads, core type of OpenBLAS, form
// of AdamW), searched first. The first losses and gradient norms of both sides must agree:
// otherwise it is not the same computation and there is nothing to compare.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/gauge"
	"github.com/mistura-project/mistura/internal/model"
)

// agreement is how far first loss and gradient norm may differ, relatively.
const agreement = 1e-4

// options are the flags.
type options struct {
	models  string
	pairs   int
	rows    int
	seq     int
	seconds float64
	python  string
}

func main() {
	o := options{}
	flag.StringVar(&o.models, "models", "ling-nano,ling-micro,ling-mini", "presets, separated by commas")
	flag.IntVar(&o.pairs, "pairs", 7, "pairs of runs, in turn")
	flag.IntVar(&o.rows, "batch", 4, "sequences of a step")
	flag.IntVar(&o.seq, "sequence", 128, "tokens of a sequence")
	flag.Float64Var(&o.seconds, "seconds", 3, "length of one run")
	flag.StringVar(&o.python, "python", "/usr/bin/python3", "interpreter with torch")
	flag.Parse()
	if err := compareAll(o); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

// report is the line of one model.
type report struct {
	Model    string   `json:"model"`
	Batch    int      `json:"batch"`
	Sequence int      `json:"sequence"`
	Kernel   string   `json:"kernel_set"`
	Cores    int      `json:"cores"`
	Torch    string   `json:"torch"`
	Loss     float64  `json:"loss_difference"`          // relative, of the first step
	Norm     float64  `json:"gradient_norm_difference"` // likewise
	Searched []tried  `json:"searched"`
	Results  []result `json:"results"`
}

// result compares the engine with the peer's best setting on as many threads; the
// last one compares all cores with the peer's best setting of all.
type result struct {
	Threads     int       `json:"threads"`
	Peer        setting   `json:"peer"`
	Tokens      float64   `json:"tokens_per_second"`      // median
	PeerTokens  float64   `json:"peer_tokens_per_second"` // median
	Ratios      []float64 `json:"ratios"`                 // ours over theirs, by pair
	MedianRatio float64   `json:"median_ratio"`
}

func compareAll(o options) error {
	dir, err := os.MkdirTemp("", "mistura-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, name := range strings.Split(o.models, ",") {
		r, err := compare(o, name, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// compare does one model.
func compare(o options, name, dir string) (report, error) {
	cfg, err := model.Preset(name)
	if err != nil {
		return report{}, err
	}
	w, err := newWork(cfg, o, dir)
	if err != nil {
		return report{}, err
	}
	r := report{Model: name, Batch: o.rows, Sequence: o.seq, Kernel: w.kernel.Name(), Cores: runtime.NumCPU()}
	if r.Searched, err = w.search(); err != nil {
		return r, err
	}
	first, err := w.agree()
	if err != nil {
		return r, err
	}
	r.Torch, r.Loss, r.Norm = first.torch, first.loss, first.norm
	for _, threads := range threadCounts() {
		result, err := w.pairs(threads, best(r.Searched, threads))
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, result)
	}
	if overall := best(r.Searched, 0); overall.Threads != runtime.NumCPU() {
		result, err := w.pairs(runtime.NumCPU(), overall)
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, result)
	}
	return r, nil
}

// threadCounts are those that are compared: one, and every core.
func threadCounts() []int { return slices.Compact([]int{1, runtime.NumCPU()}) }

// pairs runs both sides in turn.
func (w *work) pairs(threads int, s setting) (result, error) {
	r := result{Threads: threads, Peer: s}
	own, err := w.engine(threads)
	if err != nil {
		return r, err
	}
	defer own.close()
	peer, err := w.start(s)
	if err != nil {
		return r, err
	}
	defer peer.Close()
	var mine, theirs []float64
	for pair := range w.o.pairs + 1 {
		a, err := own.speed(w.o.seconds)
		if err != nil {
			return r, err
		}
		b, err := peer.speed(w.o.seconds)
		if err != nil {
			return r, err
		}
		if pair == 0 {
			continue // both are warm now
		}
		mine, theirs, r.Ratios = append(mine, a), append(theirs, b), append(r.Ratios, a/b)
		fmt.Fprintf(os.Stderr, "%s, %d threads, pair %d: engine %.0f tokens/s, PyTorch (%s) %.0f tokens/s, ratio %.3f\n",
			w.cfg.Name, threads, pair, a, s, b, a/b)
	}
	r.Tokens, r.PeerTokens, r.MedianRatio = gauge.Median(mine), gauge.Median(theirs), gauge.Median(r.Ratios)
	return r, nil
}

// difference is relative.
func difference(a, b float64) float64 { return math.Abs(a-b) / math.Max(math.Abs(a), math.Abs(b)) }

// peerProgram is found beside this source: the program is run from the repository.
func peerProgram() string { return filepath.Join("bench", "engine", "peer.py") }

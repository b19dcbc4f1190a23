// Command sgemm compares the engine's fp32 product with OpenBLAS, in turn on the
// same shapes and threads:
//
//	go run ./bench/sgemm -pairs 31
//
// OpenBLAS gets the core type that is quickest for each shape and number of threads,
// searched first.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"github.com/mistura-project/mistura/bench/peer"
	"github.com/mistura-project/mistura/internal/gauge"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// shape of a product: C [m, n] = A [m, k] · B [k, n].
type shape struct {
	M int `json:"m"`
	N int `json:"n"`
	K int `json:"k"`
}

func (s shape) flops() float64 { return 2 * float64(s.M) * float64(s.N) * float64(s.K) }

// shapes are those of issue 3.
func shapes() []shape {
	return []shape{{512, 512, 512}, {2048, 512, 2048}, {1024, 128, 128}, {256, 192, 256}}
}

// result is one line of output.
type result struct {
	shape
	Threads     int       `json:"threads"`
	Kernel      string    `json:"kernel_set"`
	Core        string    `json:"openblas_core_type"`
	Config      string    `json:"openblas"`
	GFLOPS      float64   `json:"gflops"`          // median
	Theirs      float64   `json:"openblas_gflops"` // median
	Ratios      []float64 `json:"ratios"`          // ours over theirs, by pair
	MedianRatio float64   `json:"median_ratio"`
}

func main() {
	pairs := flag.Int("pairs", 31, "pairs of runs, in turn")
	seconds := flag.Float64("seconds", 0.1, "length of one run")
	python := flag.String("python", "/usr/bin/python3", "interpreter with numpy")
	flag.Parse()
	if err := compare(*pairs, *seconds, *python); err != nil {
		fmt.Fprintln(os.Stderr, "sgemm:", err)
		os.Exit(1)
	}
}

func compare(pairs int, seconds float64, python string) error {
	set, err := kernel.FromEnvironment()
	if err != nil {
		return err
	}
	for _, threads := range slices.Compact([]int{1, runtime.NumCPU()}) {
		var peers []*openBLAS
		for _, core := range peer.CoreTypes() {
			p, err := start(python, core, threads)
			if err != nil {
				return err
			}
			defer p.Close()
			peers = append(peers, p)
		}
		own := engine.NewProducts(set, threads)
		defer own.Close()
		for _, s := range shapes() {
			r, err := inTurn(own, peers, s, threads, pairs, seconds)
			if err != nil {
				return err
			}
			r.Kernel = set.Name()
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// inTurn measures one shape against the quickest peer.
func inTurn(own *engine.Products, peers []*openBLAS, s shape, threads, pairs int, seconds float64) (result, error) {
	times := max(1, int(seconds*5e10*float64(threads)/s.flops()))
	p, err := quickest(peers, s, threads, times)
	if err != nil {
		return result{}, err
	}
	r := result{shape: s, Threads: threads, Core: p.Core, Config: p.Config}
	c, a, b := make([]float32, s.M*s.N), make([]float32, s.M*s.K), make([]float32, s.K*s.N)
	for i := range a {
		a[i] = float32(i%17) / 17
	}
	for i := range b {
		b[i] = float32(i%13) / 13
	}
	var mine, theirs []float64
	for range pairs {
		own.NN(c, a, b, s.M, s.N, s.K)
		began := time.Now()
		for range times {
			own.NN(c, a, b, s.M, s.N, s.K)
		}
		x := s.flops() * float64(times) / time.Since(began).Seconds() / 1e9
		y, err := p.gflops(s, threads, times)
		if err != nil {
			return r, err
		}
		mine, theirs, r.Ratios = append(mine, x), append(theirs, y), append(r.Ratios, x/y)
	}
	r.GFLOPS, r.Theirs, r.MedianRatio = gauge.Median(mine), gauge.Median(theirs), gauge.Median(r.Ratios)
	fmt.Fprintf(os.Stderr, "%d x %d x %d, %d threads: %.1f GFLOP/s, OpenBLAS (%s) %.1f, ratio %.3f\n",
		s.M, s.N, s.K, threads, r.GFLOPS, r.Core, r.Theirs, r.MedianRatio)
	return r, nil
}

func quickest(peers []*openBLAS, s shape, threads, times int) (*openBLAS, error) {
	var best *openBLAS
	most := 0.0
	for _, p := range peers {
		var speeds []float64
		for range 5 {
			x, err := p.gflops(s, threads, times)
			if err != nil {
				return nil, err
			}
			speeds = append(speeds, x)
		}
		if x := gauge.Median(speeds); x > most {
			best, most = p, x
		}
	}
	return best, nil
}

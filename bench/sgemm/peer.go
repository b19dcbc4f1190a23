package main

import (
	"path/filepath"

	"github.com/mistura-project/mistura/bench/peer"
)

// openBLAS is a running OpenBLAS of one core type.
type openBLAS struct {
	*peer.Process
	Core   string `json:"core_type"`
	Config string `json:"config"`
}

func start(python, core string, threads int) (*openBLAS, error) {
	p, err := peer.Start("OpenBLAS", python, filepath.Join("bench", "sgemm", "openblas.py"), core, threads)
	if err != nil {
		return nil, err
	}
	o := &openBLAS{Process: p}
	if err := p.Read(o); err != nil {
		p.Close()
		return nil, err
	}
	return o, nil
}

// job is a number of products; openblas.py reads it.
type job struct {
	M       int `json:"m"`
	N       int `json:"n"`
	K       int `json:"k"`
	Threads int `json:"threads"`
	Times   int `json:"times"`
}

// gflops is the speed over a number of products.
func (o *openBLAS) gflops(s shape, threads, times int) (float64, error) {
	var a struct{ Seconds float64 }
	if err := o.Ask(job{s.M, s.N, s.K, threads, times}, &a); err != nil {
		return 0, err
	}
	return s.flops() * float64(times) / a.Seconds / 1e9, nil
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// peer is a running OpenBLAS of one core type.
type peer struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	Core   string `json:"core_type"`
	Config string `json:"config"`
}

func start(python, program, core string, threads int) (*peer, error) {
	cmd := exec.Command(python, program)
	cmd.Env = append(os.Environ(), "OPENBLAS_CORETYPE="+core, fmt.Sprintf("OMP_NUM_THREADS=%d", threads))
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
		return nil, fmt.Errorf("starting OpenBLAS: %w", err)
	}
	p := &peer{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if err := p.read(p); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *peer) read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("OpenBLAS gave no answer: %w", err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("OpenBLAS answered %q: %w", line, err)
	}
	return nil
}

// gflops is the speed over a number of products.
func (p *peer) gflops(s shape, threads, times int) (float64, error) {
	if _, err := fmt.Fprintf(p.in, "{\"m\": %d, \"n\": %d, \"k\": %d, \"threads\": %d, \"times\": %d}\n", s.M, s.N, s.K, threads, times); err != nil {
		return 0, err
	}
	var a struct{ Seconds float64 }
	if err := p.read(&a); err != nil {
		return 0, err
	}
	return s.flops() * float64(times) / a.Seconds / 1e9, nil
}

// close ends the peer: the end of its stdin is the end of its work.
func (p *peer) close() {
	p.in.Close()
	p.cmd.Wait() //nolint:errcheck // its answers have said what mattered
}

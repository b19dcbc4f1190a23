package peer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// Process is a running Python program that works with OpenBLAS.
type Process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

// Start runs a program with OpenBLAS's kernels for a core type on so many threads. name
// is for errors. The caller must Close it.
func Start(name, python, program, core string, threads int) (*Process, error) {
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
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &Process{name, cmd, in, bufio.NewReader(out)}, nil
}

// Tell writes one object to it.
func (p *Process) Tell(v any) error {
	if err := json.NewEncoder(p.in).Encode(v); err != nil {
		return fmt.Errorf("telling %s the work: %w", p.name, err)
	}
	return nil
}

// Read waits for its next object.
func (p *Process) Read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s gave no answer: %w", p.name, err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%s answered %q: %w", p.name, line, err)
	}
	return nil
}

// Ask is Tell and Read.
func (p *Process) Ask(question, answer any) error {
	if err := p.Tell(question); err != nil {
		return err
	}
	return p.Read(answer)
}

// Close ends it: the end of its stdin is the end of its work.
func (p *Process) Close() {
	p.in.Close()
	p.cmd.Wait() //nolint:errcheck // its answers have said what mattered
}

// CoreTypes are OpenBLAS's kernels for this processor. It takes one that the processor
// cannot run at its word and dies.
func CoreTypes() []string {
	types := []string{"Haswell", "Zen"}
	if slices.Contains(kernel.Available(), "avx512") {
		types = append(types, "SkylakeX")
	}
	return types
}

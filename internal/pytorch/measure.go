package pytorch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// timing starts mistura.measure. Interrupts are for the program that started it, which
// ends it; threads sleep while they wait, as the reference learner's do.
const timing = `
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
` + careful + `
from mistura import measure
sys.exit(measure.main(sys.argv[1:]))
`

// Timing is a device whose speed is measured.
type Timing struct {
	Python string // program; empty: as Python says
	Where  string // the flag that asked, for messages
	Ranks  int    // processes, at least 1
	// Patience is how long it may take in all; a process that hangs is ended then.
	Patience time.Duration
}

// Measure has the Python package time what the request asks for, and hands each line that
// it says on, as long as said returns nil. What is missing is a *fault.Input that says how
// to install it.
func (t Timing) Measure(ctx context.Context, request []byte, said func(line []byte) error) error {
	python := t.Python
	if python == "" {
		var err error
		if python, err = Python(ctx); err != nil {
			return err
		}
	}
	dir, err := Unpack("")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.Patience, fmt.Errorf("it has not ended within %v", t.Patience))
	defer cancel()
	return t.run(ctx, python, dir, request, said)
}

func (t Timing) run(ctx context.Context, python, dir string, request []byte, said func(line []byte) error) error {
	args := []string{"-c", timing, "--request", string(request)}
	if t.Ranks > 1 {
		args = append([]string{filepath.Join(dir, "mistura", "ranks.py"), strconv.Itoa(t.Ranks)}, args...)
	}
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = append(os.Environ(), Variables(dir)...)
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // ranks pass it on
	cmd.WaitDelay = 5 * time.Second                                          // then it is killed
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines, heard := bufio.NewScanner(out), false
	var refused error
	for refused == nil && lines.Scan() {
		if line := lines.Bytes(); json.Valid(line) { // else a plug-in has printed it
			heard, refused = true, t.take(python, line, said)
		}
	}
	if refused != nil {
		cmd.Cancel() //nolint:errcheck // it may have ended
	}
	err = cmd.Wait()
	switch {
	case refused != nil:
		return refused
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !heard:
		why := firstOf(string(lastLine(wrong.Bytes())), fmt.Sprint(err))
		return &fault.Input{Where: t.Where, Value: python, Problem: fmt.Sprintf("does not run the Python package (%s)", why), Next: "name another Python"}
	case err != nil:
		return fmt.Errorf("%s: %s", python, firstOf(string(lastLine(wrong.Bytes())), err.Error()))
	}
	return lines.Err()
}

// take reads a line.
func (t Timing) take(python string, line []byte, said func([]byte) error) error {
	var a answer
	if json.Unmarshal(line, &a) == nil {
		if err := a.fault(t.Where, python); err != nil {
			return err
		}
	}
	return said(line)
}

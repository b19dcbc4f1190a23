package pytorch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// python3 is Debian's, which has torch and numpy where continuous integration runs.
const python3 = "/usr/bin/python3"

func unpacked(t *testing.T) string {
	t.Helper()
	dir, err := Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// program writes an executable shell script.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "python3")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbeFindsPyTorch(t *testing.T) {
	if err := exec.Command(python3, "-c", "import torch, numpy").Run(); err != nil {
		t.Skipf("no PyTorch: %s: %v", python3, err)
	}
	dir := unpacked(t)
	found, err := probe(context.Background(), python3, dir, "island a", Learner{Device: "cpu", Precision: "bf16", Ranks: 4})
	if err != nil || found.Torch == "" || found.Python == "" || found.Device != "cpu" {
		t.Errorf("found %+v, %v", found, err)
	}
	_, err = probe(context.Background(), python3, dir, "island a", Learner{Device: "tpu", Precision: "fp32"})
	in := (*fault.Input)(nil)
	if !errors.As(err, &in) || in.Where != "island a device" || in.Value != "tpu" || !strings.Contains(in.Next, "npu") {
		t.Errorf("got %v", err)
	}
}

// A machine without PyTorch hears in one line how to install it.
func TestProbeWithoutPyTorch(t *testing.T) {
	if _, err := exec.LookPath(python3); err != nil {
		t.Skipf("no Python: %v", err)
	}
	bare := program(t, "exec "+python3+` -S "$@"`) // -S: without the folder of installed packages
	_, err := probe(context.Background(), bare, unpacked(t), "island a", Learner{Device: "cpu", Precision: "fp32"})
	in := (*fault.Input)(nil)
	if !errors.As(err, &in) || !strings.Contains(in.Problem, "has no PyTorch: No module named 'numpy'") || in.Next != "install it by: "+bare+" -m pip install torch numpy" {
		t.Errorf("got %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Error("it takes more than a line")
	}
}

func TestProbeOfAProgramThatIsNoPython(t *testing.T) {
	broken := program(t, "echo 'Segmentation fault' >&2; exit 139")
	_, err := probe(context.Background(), broken, unpacked(t), "island a", Learner{Device: "cpu", Precision: "fp32"})
	if err == nil || !strings.Contains(err.Error(), "does not run the reference learner (Segmentation fault); name another Python in MISTURA_PYTHON") {
		t.Errorf("got %v", err)
	}
}

// Danger: a Python that hangs, or leaves a process behind that holds its output, hangs
// whoever asks.
func TestProbeOfAPythonThatHangs(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("it has not answered within a blink"))
	defer cancel()
	_, err := probe(ctx, program(t, "sleep 30"), unpacked(t), "island a", Learner{Device: "cpu", Precision: "fp32"})
	if err == nil || !strings.Contains(err.Error(), "does not run the reference learner (it has not answered within a blink)") {
		t.Errorf("got %v", err)
	}
}

package pytorch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// PythonVariable names the Python program to use, in place of python3.
const PythonVariable = "MISTURA_PYTHON"

// Learner is what a torch island computes on.
type Learner struct {
	Device    string // as PyTorch calls it, such as cuda or npu:1
	Precision string // fp32, bf16 or fp16
	Ranks     int    // processes, at least 1
	Threads   int    // of each rank on the CPU, at least 1
	Recompute bool   // layers are computed again in the backward pass
	NoGate    bool   // it does not answer the gate
}

// Devices are the kinds of device that the reference learner knows: those of
// python/mistura/device.py, which has the last word.
func Devices() []string {
	return []string{"cpu", "cuda", "npu", "musa", "mlu", "gcu", "xpu", "hpu", "mps"}
}

// has asks a Python whether torch and numpy are installed, without loading them.
const has = "import importlib.util as u, sys; sys.exit(not (u.find_spec('torch') and u.find_spec('numpy')))"

// hasPatience bounds that question: a Python on a file system that has gone away never answers.
const hasPatience = 30 * time.Second

// hasTorch says whether a Python has torch and numpy.
func hasTorch(ctx context.Context, python string) bool {
	ctx, cancel := context.WithTimeout(ctx, hasPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", has)
	cmd.WaitDelay = time.Second
	return cmd.Run() == nil
}

// Python is the program that runs the learner: what MISTURA_PYTHON names; or else the one
// on PATH, or the system's, whichever has PyTorch. Where none has, it is the first, whose
// name then stands in the message.
func Python(ctx context.Context) (string, error) {
	if named := os.Getenv(PythonVariable); named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", &fault.Input{Where: PythonVariable, Value: named, Problem: "is no program that can be run", Next: "name a Python that has torch and numpy", Err: err}
		}
		return path, nil
	}
	first := ""
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if hasTorch(ctx, path) {
			return path, nil
		}
		if first == "" {
			first = path
		}
	}
	if first == "" {
		return "", &fault.Input{
			Where: "engine", Value: "torch", Problem: "there is no python3 on PATH",
			Next: "install Python 3.9 or newer with torch and numpy, or name one in " + PythonVariable,
		}
	}
	return first, nil
}

// Command is the program and the arguments that start the learner's ranks; dir is where
// the package was unpacked.
func (l Learner) Command(python, dir string) []string {
	args := []string{python}
	if l.Ranks > 1 {
		args = append(args, filepath.Join(dir, "mistura", "ranks.py"), strconv.Itoa(l.Ranks))
	}
	args = append(args, "-m", "mistura.train", "--device", l.Device, "--precision", l.Precision, "--threads", strconv.Itoa(max(1, l.Threads)))
	if l.Recompute {
		args = append(args, "--activation-checkpointing")
	}
	if l.NoGate {
		args = append(args, "--no-gate")
	}
	return args
}

// Variables of the learner's environment, beside those that it inherits: the package's
// folder comes first on PYTHONPATH.
//
// PyTorch from 2.5 on imports every vendor's plug-in by itself, also those of other
// devices, and does not start when one is broken (case G13): that is switched off, and
// the learner imports the one it needs.
func Variables(dir string) []string {
	if before := os.Getenv("PYTHONPATH"); before != "" {
		dir += string(os.PathListSeparator) + before
	}
	return []string{"PYTHONPATH=" + dir, "TORCH_DEVICE_BACKEND_AUTOLOAD=0"}
}

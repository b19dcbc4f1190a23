package pytorch

import (
	"context"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/python"
)

func TestCommand(t *testing.T) {
	one := Learner{Device: "npu", Precision: "bf16", Ranks: 1, Threads: 4}
	got := strings.Join(one.Command("/usr/bin/python3", "/cache/x"), " ")
	if want := "/usr/bin/python3 -m mistura.train --device npu --precision bf16 --threads 4"; got != want {
		t.Errorf("one rank:\n%s\nwant\n%s", got, want)
	}
	many := Learner{Device: "cuda", Precision: "fp32", Ranks: 8, Recompute: true, NoGate: true}
	got = strings.Join(many.Command("python3", "/cache/x"), " ")
	if want := "python3 /cache/x/mistura/ranks.py 8 -m mistura.train --device cuda --precision fp32 --threads 1 --activation-checkpointing --no-gate"; got != want {
		t.Errorf("eight ranks:\n%s\nwant\n%s", got, want)
	}
}

// TestDevices compares what is offered with the table that decides.
func TestDevices(t *testing.T) {
	table, err := fs.ReadFile(python.Files(), "mistura/device.py")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, m := range regexp.MustCompile(`Kind\(\s*"(\w+)",`).FindAllSubmatch(table, -1) {
		kinds = append(kinds, string(m[1]))
	}
	if got := Devices(); !slices.Equal(got, kinds) {
		t.Errorf("offered are %q, known are %q", got, kinds)
	}
}

func TestVariables(t *testing.T) {
	t.Setenv("PYTHONPATH", "/mine")
	if got, want := Variables("/cache/x"), []string{"PYTHONPATH=/cache/x:/mine", "TORCH_DEVICE_BACKEND_AUTOLOAD=0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv("PYTHONPATH", "") // an empty entry would be the current folder
	if got := Variables("/cache/x"); got[0] != "PYTHONPATH=/cache/x" {
		t.Errorf("got %q", got)
	}
}

func TestPythonThatIsNotThere(t *testing.T) {
	t.Setenv(PythonVariable, "/nowhere/python3")
	_, err := Python(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), `MISTURA_PYTHON "/nowhere/python3": is no program that can be run`) {
		t.Errorf("got %v", err)
	}
	bare := program(t, "exit 1")
	hangs, cancel := context.WithCancel(t.Context())
	cancel()
	if hasTorch(hangs, program(t, "exec sleep 1000")) {
		t.Error("a Python that does not answer has PyTorch")
	}
	t.Setenv(PythonVariable, "")
	t.Setenv("PATH", filepath.Dir(bare))
	path, err := Python(t.Context())
	if err != nil || path != bare && path != python3 { // the system's may have what the first lacks
		t.Errorf("got %q, %v", path, err)
	}
}

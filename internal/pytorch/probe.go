package pytorch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// probePatience bounds the question: the first import of PyTorch on a cold disk takes a while.
const probePatience = 3 * time.Minute

// Found is what a learner will compute with.
type Found struct {
	Python string `json:"python"` // version
	Torch  string `json:"torch"`  // version
	Device string `json:"device"` // kind and name, as PyTorch says
}

// answer is what the script prints: what was found, what is not installed, or bad input.
type answer struct {
	Found
	Missing string `json:"missing"`
	Error   *struct{ Where, Value, Problem, Next string }
}

// careful runs before PyTorch is known to be there, and so imports it with care.
const careful = `
import json, sys
try:
    import numpy, torch
except Exception as e:
    print(json.dumps({"python": sys.version.split()[0], "missing": " ".join(str(e).split()) or type(e).__name__}))
    sys.exit(0)
`

// script asks the reference learner.
const script = careful + `
from mistura import train
sys.exit(train.main(["--probe"] + sys.argv[1:]))
`

// Probe asks Python whether the learner can compute what it is to: PyTorch, the device of
// its last rank and the format. What is missing is a *fault.Input that says how to install it.
// where names the island, for the message.
func Probe(ctx context.Context, where string, l Learner) (Found, error) {
	python, err := Python(ctx)
	if err != nil {
		return Found{}, err
	}
	dir, err := Unpack("")
	if err != nil {
		return Found{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probePatience, fmt.Errorf("it has not answered within %v", probePatience))
	defer cancel()
	return probe(ctx, python, dir, where, l)
}

// probe asks one Python, within ctx.
func probe(ctx context.Context, python, dir, where string, l Learner) (Found, error) {
	cmd := exec.CommandContext(ctx, python, "-c", script, "--device", l.Device, "--precision", l.Precision)
	cmd.Env = append(append(os.Environ(), Variables(dir)...), "LOCAL_RANK="+strconv.Itoa(max(0, l.Ranks-1)))
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second // what it has started may hold the pipes
	out, err := cmd.Output()
	var a answer
	if decodeErr := json.Unmarshal(lastLine(out), &a); decodeErr != nil {
		if err == nil {
			err = decodeErr
		}
		why := firstOf(string(lastLine(said.Bytes())), err.Error())
		if ctx.Err() != nil {
			why = context.Cause(ctx).Error()
		}
		return Found{}, &fault.Input{
			Where: where, Value: python, Problem: fmt.Sprintf("does not run the reference learner (%s)", why),
			Next: "name another Python in " + PythonVariable,
		}
	}
	return a.Found, a.fault(where, python)
}

// fault is what the user has to mend; nil if nothing.
func (a answer) fault(where, python string) error {
	switch {
	case a.Missing != "":
		return &fault.Input{
			Where: where, Value: "torch", Problem: fmt.Sprintf("%s (Python %s) has no PyTorch: %s", python, a.Python, a.Missing),
			Next: "install it by: " + python + " -m pip install torch numpy",
		}
	case a.Error != nil:
		return &fault.Input{Where: where + " " + a.Error.Where, Value: a.Error.Value, Problem: a.Error.Problem, Next: a.Error.Next}
	}
	return nil
}

// lastLine of what a program printed: plug-ins print as they please before it.
func lastLine(out []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return lines[len(lines)-1]
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t = strings.TrimSpace(t); t != "" {
			return t
		}
	}
	return ""
}

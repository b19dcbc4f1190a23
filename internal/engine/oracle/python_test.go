package oracle

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

var tableFile = flag.String("table", "", "train every configuration to the end, with nudged runs, and write the table of docs/engine.md to this `file`")

// job is a job of python/oracle, with its keys.
type job struct {
	Name     string       `json:"name"`
	Config   model.Config `json:"config"`
	Weights  string       `json:"weights"`
	Tokens   any          `json:"tokens"`
	Out      string       `json:"out"`
	Dtype    string       `json:"dtype,omitempty"`
	EndToken *int32       `json:"end_token,omitempty"`
	Choices  string       `json:"choices,omitempty"`
	Noise    *noise       `json:"noise,omitempty"`
	Training *training    `json:"training,omitempty"`
	Nudge    *int         `json:"nudge,omitempty"`
	Inject   string       `json:"inject,omitempty"`
}

// noise is that of a routing warm-up; Eps is [row][token][expert] by layer.
type noise struct {
	Alpha float64               `json:"alpha"`
	Eps   map[int][][][]float64 `json:"eps"`
}

type training struct {
	Steps       int     `json:"steps"`
	Beta1       float64 `json:"beta1"`
	Beta2       float64 `json:"beta2"`
	Eps         float64 `json:"eps"`
	WeightDecay float64 `json:"weight_decay"`
	ClipNorm    float64 `json:"clip_norm"`
	Shape       string  `json:"shape"`
	PeakRate    float64 `json:"peak_rate"`
	FinalRate   float64 `json:"final_rate"`
	Warmup      int64   `json:"warmup_tokens"`
	DecayFrom   int64   `json:"decay_from_tokens"`
	Tokens      int64   `json:"tokens"`
}

func newTraining(steps int, a engine.AdamWConfig, s engine.Schedule) *training {
	return &training{Steps: steps, Beta1: a.Beta1, Beta2: a.Beta2, Eps: a.Eps, WeightDecay: a.WeightDecay, ClipNorm: a.ClipNorm,
		Shape: s.Shape, PeakRate: s.PeakRate, FinalRate: s.FinalRate, Warmup: s.WarmupTokens, DecayFrom: s.DecayFromTokens, Tokens: s.TotalTokens}
}

// folder holds everything that passes between the tests and the oracle.
var folder string

// TestMain makes the folder, and fails when a test leaves an engine's worker behind.
func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "mistura-oracle-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(folder); err != nil {
			panic(err)
		}
		os.Exit(code)
	}))
}

// python is an interpreter that has what the oracle needs.
var python = sync.OnceValue(func() string {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		const probe = "import importlib.util as u, sys; sys.exit(not (u.find_spec('torch') and u.find_spec('numpy')))"
		if path, err := exec.LookPath(name); err == nil && exec.Command(path, "-c", probe).Run() == nil {
			return path
		}
	}
	return ""
})

// command is a call of the oracle; the test is skipped where it cannot run.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if python() == "" {
		t.Skip("no python3 with torch and numpy (Debian: apt-get install python3-torch)")
	}
	cmd := exec.Command(python(), append([]string{"-B", "-m", "oracle"}, args...)...)
	cmd.Dir = filepath.Join("..", "..", "..", "python")
	return cmd
}

// runJobs has one process work off the jobs, and gives the shares of tokens that
// would choose otherwise, by the names of jobs with imposed choices.
func runJobs(t testing.TB, name string, jobs []job) (otherwise map[string]float64, err error) {
	text, err := json.Marshal(jobs)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, name+".json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd := command(t, "--jobs", path)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", name, err, out, stderr.Bytes())
	}
	otherwise = map[string]float64{}
	for line := range bytes.Lines(out) {
		var done struct {
			Name      string
			Otherwise *float64
		}
		if err := json.Unmarshal(line, &done); err != nil {
			return nil, fmt.Errorf("%s says %q: %w", name, line, err)
		}
		if done.Otherwise != nil {
			otherwise[done.Name] = *done.Otherwise
		}
	}
	return otherwise, nil
}

// writeWeights writes a model as a checkpoint has it.
func writeWeights(t testing.TB, cfg model.Config, params []float32, path string) {
	t.Helper()
	var tensors []store.Tensor
	for _, x := range cfg.Tensors() {
		tensors = append(tensors, store.Tensor{Name: x.Name, Shape: x.Shape, F32: params[x.Offset : x.Offset+x.Size()]})
	}
	var file bytes.Buffer
	if err := store.WriteSafetensors(&file, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// table cuts tokens into rows.
func table(tokens []int32, rows int) [][]int32 {
	width := len(tokens) / rows
	var all [][]int32
	for row := range rows {
		all = append(all, tokens[row*width:(row+1)*width])
	}
	return all
}

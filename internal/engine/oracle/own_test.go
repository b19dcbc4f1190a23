package oracle

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

// These tests are of the oracle itself, where agreement with the engine would not
// tell which of them is right.

// scratch is a small model, without router losses: those are of a sequence, and
// would tie its documents to each other.
func scratch(t testing.TB) subject {
	t.Helper()
	for _, s := range subjects(t) {
		if s.name == "no router losses" {
			s.cfg.Vocab = 100
			return s
		}
	}
	t.Fatal("the configuration is gone")
	return subject{}
}

// ownJobs are jobs for the tests below, by name.
func ownJobs(t testing.TB) []job {
	t.Helper()
	s, end := scratch(t), int32(99)
	params, path := s.params(), func(name string) string { return filepath.Join(folder, "own "+name) }
	writeWeights(t, s.cfg, params, path("weights"))
	for _, x := range s.cfg.Tensors() {
		if x.Kind == model.Router {
			for i := range x.Size() {
				params[x.Offset+i] *= -1
			}
		}
	}
	writeWeights(t, s.cfg, params, path("contrary weights"))
	var jobs []job
	add := func(name string, tokens ...int32) *job {
		jobs = append(jobs, job{Name: name, Config: s.cfg, Weights: path("weights"), Tokens: [][]int32{tokens}, EndToken: &end, Out: path(name)})
		return &jobs[len(jobs)-1]
	}
	add("E8", 10, 11, 99, 20, 21)
	add("packed", 5, 6, 7, 99, 8, 9, 10, 11)
	add("packed with another", 3, 2, 1, 99, 8, 9, 10, 11)
	add("first", 5, 6, 7, 99)
	add("second", 8, 9, 10, 11)
	add("contrary", 8, 9, 10, 11).Weights = path("contrary weights")
	add("imposed", 8, 9, 10, 11).Choices = path("contrary")
	return jobs
}

// TestOracleCutsDocuments is case E8.
func TestOracleCutsDocuments(t *testing.T) {
	r := ask(t).own["E8"]
	if got := r["value.positions"]; !slices.Equal(got, []float64{0, 1, 2, 0}) {
		t.Errorf("positions are %v", got)
	}
	if got := r["value.counts"]; !slices.Equal(got, []float64{1, 1, 0, 1}) {
		t.Errorf("the losses that count are %v", got)
	}
	if got := r["value.losses"]; got[2] != 0 || r["loss"][0] != got[0]+got[1]+got[3] || r["targets"][0] != 3 {
		t.Errorf("losses are %v, their sum %v over %v", got, r["loss"], r["targets"])
	}
}

// TestOraclePacksDocuments is case E9.
func TestOraclePacksDocuments(t *testing.T) {
	o := ask(t)
	packed, other, first, second := o.own["packed"], o.own["packed with another"], o.own["first"], o.own["second"]
	vocab := scratch(t).cfg.Vocab
	if !slices.Equal(packed["value.logits"][4*vocab:], other["value.logits"][4*vocab:]) {
		t.Error("the second document's logits depend on the first")
	}
	if d := relative([]float64{first["loss"][0] + second["loss"][0]}, packed["loss"]); d > 1e-14 {
		t.Errorf("the loss of both documents differs by %.2g when they are packed", d)
	}
	for name, want := range packed {
		if !strings.HasPrefix(name, "grad.") {
			continue
		}
		sum := make([]float64, len(want))
		for i := range sum {
			sum[i] = first[name][i] + second[name][i]
		}
		if d := relative(sum, want); d > 1e-12 {
			t.Errorf("%s differs by %.2g when documents are packed", name, d)
		}
	}
}

// TestOracleReportsOtherChoices imposes what routers turned upside down chose.
func TestOracleReportsOtherChoices(t *testing.T) {
	o, c := ask(t), scratch(t).cfg
	imposed, contrary, free := o.own["imposed"].choices(c.Layers, 0, 1), o.own["contrary"].choices(c.Layers, 0, 1), o.own["second"].choices(c.Layers, 0, 1)
	for l := range imposed {
		if !slices.Equal(imposed[l], contrary[l]) {
			t.Errorf("layer %d visits %v, imposed is %v", l, imposed[l], contrary[l])
		}
	}
	// In the first layer both had the same input.
	if share := differing(contrary[:1], free[:1], c.TopK); share == 0 {
		t.Error("turned upside down, the first router chose the same experts")
	}
	if o.otherwise["imposed"] == 0 {
		t.Error("the oracle reports no token that would choose otherwise")
	}
	if share, ok := o.otherwise["second"]; ok {
		t.Errorf("without imposed choices the oracle reports a share of %v", share)
	}
}

const badInput = `
import json, sys
from oracle import job
from oracle.errors import InputError
from oracle.__main__ import main
for case in json.load(sys.stdin):
    try:
        job.run(job.parse("job", case))
        print("accepted")
    except InputError as err:
        print(err)
print("exit code", main(["--config", "nowhere.json", "--weights", "w", "--tokens", "t", "--out", "o"]))
`

// TestOracleRefuses gives bad input: one line each, with what to do.
func TestOracleRefuses(t *testing.T) {
	ask(t) // writes the weights
	cases := []struct {
		change func(j map[string]any)
		says   []string
	}{
		{func(j map[string]any) { j["wieghts"] = "x" }, []string{"wieghts", "not a known key", "weights"}},
		{func(j map[string]any) { delete(j, "out") }, []string{"job.out", "missing"}},
		{func(j map[string]any) { j["weights"] = "nowhere" }, []string{"nowhere", "cannot be read"}},
		{func(j map[string]any) { j["dtype"] = "float16" }, []string{"dtype", "float16", "float64 or float32"}},
		{func(j map[string]any) { j["tokens"] = [][]int{{1, 100}} }, []string{"tokens", "outside the vocabulary", "0 to 99"}},
		{func(j map[string]any) { j["tokens"] = [][]int{{1, 2}, {1}} }, []string{"tokens", "equal length"}},
		{func(j map[string]any) { j["config"].(map[string]any)["rooter"] = "softmax" }, []string{"rooter", "did you mean router"}},
		{func(j map[string]any) { j["config"].(map[string]any)["router"] = "softmin" }, []string{"config.router", "softmin", "softmax or sigmoid"}},
		{func(j map[string]any) { j["config"].(map[string]any)["dim"] = "six" }, []string{"config.dim", "six", "type int"}},
		{func(j map[string]any) { j["config"].(map[string]any)["experts"] = 2 }, []string{"weight", "router", "one model"}},
		{func(j map[string]any) { j["choices"] = j["weights"] }, []string{"choices", "0 layers"}},
		{func(j map[string]any) { j["training"] = map[string]any{"steps": 1} }, []string{"training", "beta1", "missing"}},
	}
	var bad []any
	for _, c := range cases {
		text, err := json.Marshal(ownJobs(t)[0])
		if err != nil {
			t.Fatal(err)
		}
		var j map[string]any
		if err := json.Unmarshal(text, &j); err != nil {
			t.Fatal(err)
		}
		c.change(j)
		bad = append(bad, j)
	}
	input, err := json.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t)
	cmd.Args = []string{cmd.Path, "-B", "-c", badInput}
	cmd.Stdin = strings.NewReader(string(input))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(cases)+1 || lines[len(cases)] != "exit code 2" {
		t.Fatalf("the oracle said:\n%s", out)
	}
	for i, c := range cases {
		for _, part := range c.says {
			if !strings.Contains(lines[i], part) {
				t.Errorf("%q does not say %q", lines[i], part)
			}
		}
	}
}

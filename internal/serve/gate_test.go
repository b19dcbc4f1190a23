package serve_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// actGate is what an island's act at the gate begins with.
const actGate = "gate:"

// gateFault is a fault of an island's model, of ling-tiny.
func gateFault(name string) island.GateFaults {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		panic(err)
	}
	each := func(suffix string, change func([]float32)) func([]float32) {
		return func(flat []float32) {
			for _, t := range cfg.Tensors() {
				if strings.HasSuffix(t.Name, suffix) {
					change(flat[t.Offset : t.Offset+t.Size()])
				}
			}
		}
	}
	zero := func(x []float32) { clear(x) }
	switch name {
	case "sign":
		return island.GateFaults{Gradients: each("layers.1.attention.k", func(x []float32) {
			for i := range x {
				x[i] = -x[i]
			}
		})}
	case "attention":
		return island.GateFaults{Weights: each(".o", zero)}
	case "router":
		return island.GateFaults{Gradients: each("layers.0.router", zero)}
	case "stale":
		return island.GateFaults{Weights: func(x []float32) {
			for i := range x {
				x[i] *= 1.01
			}
		}}
	case "declared":
		return island.GateFaults{Declared: "fp32"}
	}
	panic("no such fault: " + name)
}

// asked makes a run ask its own islands at the gate.
func asked(o *serve.Options) { o.GateOwn = true }

// gates are the records of the gate on the tape of all eras.
func gates(t testing.TB, dir string) (out []coord.GateRecord) {
	t.Helper()
	for _, era := range tapes(t, dir) {
		for _, raw := range era.Coordinator {
			var r coord.GateRecord
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			if r.Kind == "gate" {
				out = append(out, r)
			}
		}
	}
	return out
}

// Islands that compute the run's model pass, in fp32 and in a format that they declare,
// and what it was decided by is on the tape and shown.
func TestIslandsPassTheGate(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(run *runfile.Run) {
		run.Islands = []runfile.Island{{Name: "exact", Pace: 1}, {Name: "rounded", Pace: 1, Numeric: "bf16"}}
	})
	c := begin(t, t.TempDir(), run, false, nil, asked)
	for _, i := range c.finish().Islands {
		if i.Gate == nil || *i.Gate != "passed" {
			t.Errorf("the summary says %+v", i)
		}
	}
	for _, r := range gates(t, c.dir) {
		want := map[string]string{"exact": "fp32", "rounded": "bf16"}[r.Island]
		if r.Outcome != coord.GatePassed || r.Verdict == nil || r.Verdict.Declared != want || r.Verdict.Worst.Ratio() > 1 {
			t.Errorf("%s: %+v", r.Island, r)
		}
	}
	if n := len(gates(t, c.dir)); n != 2 {
		t.Errorf("%d records of the gate", n)
	}
	shown := 0
	for _, e := range c.events {
		if g, ok := e.(ledger.Gated); ok && g.Outcome == "passed" {
			shown++
		}
	}
	if shown != 2 {
		t.Errorf("%d of 2 shown", shown)
	}
}

// Whoever does not compute the run's model is turned away with the tensor's name, three
// times, and then not started again: nothing of it was merged.
func TestFaultsAreTurnedAwayAtTheGate(t *testing.T) {
	t.Parallel()
	for _, f := range []struct{ name, first string }{
		{"sign", "layers.1.attention.k"},
		{"attention", "embedding"},
		{"router", "layers.0.router"},
		{"stale", "embedding"},
		{"declared", "embedding"},
	} {
		t.Run(f.name, func(t *testing.T) {
			run := alone(t, func(run *runfile.Run) {
				if f.name == "declared" {
					run.Islands[0].Numeric = "bf16"
				}
			})
			c := begin(t, t.TempDir(), run, false, nil, asked, faking(everyone+"="+actGate+f.name))
			sum, err := c.wait()
			if !errors.Is(err, serve.ErrRunFailed) || sum.Merges != 0 {
				t.Fatalf("%v, %d merges", err, sum.Merges)
			}
			records := gates(t, c.dir)
			if len(records) != coord.GateTries {
				t.Fatalf("%d records of the gate", len(records))
			}
			if i := sum.Islands[0]; i.Gate == nil || *i.Gate != "refused" || !strings.Contains(i.GateReason, f.first) {
				t.Errorf("the summary says %+v", i)
			}
			for _, r := range records {
				if r.Outcome != coord.GateRefused || r.Verdict == nil || r.Verdict.First == nil || r.Verdict.First.Name != f.first || !strings.Contains(r.Why, f.first) {
					t.Errorf("%+v", r)
				}
			}
			t.Log(records[0].Why)
		})
	}
}

// A run's own islands are this program, and gate: off is taken at its word: both are on
// the tape as skipped.
func TestGateIsSkippedOnTheRecord(t *testing.T) {
	t.Parallel()
	for off, why := range map[string]string{runfile.GateRequired: "the same program", runfile.GateOff: "off in the run file"} {
		run := alone(t, func(run *runfile.Run) { run.Gate = off })
		c := begin(t, t.TempDir(), run, false, nil)
		if i := c.finish().Islands[0]; i.Gate == nil || *i.Gate != "skipped" || !strings.Contains(i.GateReason, why) {
			t.Errorf("the summary says %+v", i)
		}
		records := gates(t, c.dir)
		if len(records) != 1 || records[0].Outcome != coord.GateSkipped || !strings.Contains(records[0].Why, why) {
			t.Errorf("%+v", records)
		}
	}
}

// Behind a checkpoint islands are compared on its weights, which are sent to them.
func TestGateGoesByTheNewestCheckpoint(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens = stepTokens * 50 })
	dir := t.TempDir()
	begin(t, dir, run, false, nil, asked).finish()
	run.Tokens = stepTokens * 300
	begin(t, dir, run, true, nil, asked).finish()
	records := gates(t, dir)
	if len(records) != 2 || records[0].Checkpoint != 0 || records[1].Checkpoint == 0 {
		t.Fatalf("%+v", records)
	}
	if i := slices.IndexFunc(records, func(r coord.GateRecord) bool { return r.Outcome != coord.GatePassed }); i >= 0 {
		t.Errorf("%+v", records[i])
	}
}

// A run that begins with the weights of another asks about those: islands pass on them, in
// their number format, and one that spoils a gradient there does not.
func TestGateOfARunFromOthersWeights(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) { run.Tokens = stepTokens * 40 })
	before := t.TempDir()
	begin(t, before, run, false, nil).finish()
	run.Model.From = before
	for _, spoiled := range []string{"", "sign"} {
		change := []func(*serve.Options){asked}
		if spoiled != "" {
			change = append(change, faking(everyone+"="+actGate+spoiled))
		}
		c := begin(t, t.TempDir(), run, false, nil, change...)
		if _, err := c.wait(); (err == nil) != (spoiled == "") {
			t.Fatalf("%q: %v", spoiled, err)
		}
		r := gates(t, c.dir)[0]
		if (r.Outcome == coord.GatePassed) != (spoiled == "") || r.Verdict == nil || r.Checkpoint != 0 {
			t.Errorf("%q: %+v", spoiled, r)
		}
	}
}

// strangers is a run of a model that only its trainers know, with first weights in a file.
func strangers(t *testing.T) (runfile.Run, []float32) {
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
	cfg := run.Model.Config
	weights := make([]float32, cfg.Size())
	engine.InitParams(cfg, 5, weights)
	var tensors []store.Tensor
	run.Model = runfile.Model{}
	for _, m := range cfg.Tensors() {
		tensors = append(tensors, store.Tensor{Name: m.Name, Shape: m.Shape, F32: weights[m.Offset : m.Offset+m.Size()]})
		run.Model.Tensors = append(run.Model.Tensors, runfile.Tensor{Name: m.Name, Shape: m.Shape, State: m.Kind == model.State})
	}
	dir := t.TempDir()
	st, err := store.OpenFolder(dir)
	if err == nil {
		_, err = store.PutTensors(t.Context(), st, "first.safetensors", tensors, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	run.Model.From, run.Gate = filepath.Join(dir, "first.safetensors"), runfile.GateRequired
	if run, err = run.Resolve(); err != nil {
		t.Fatal(err)
	}
	return run, weights
}

// An island on two hosts whose ranks hold rows, or whole tensors, answers as one that holds
// everything: its record is that of the whole gradient.
func TestHostsAnswerTogether(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]attachtest.Layout{"replicated": attachtest.Replicated, "rows": attachtest.Rows, "stages": stages} {
		t.Run(name, func(t *testing.T) {
			run, weights := strangers(t)
			c, paths := sockets(t, run)
			if err := twoHosts(t, c, run, layout, <-paths, 1, nil); err != nil {
				t.Fatal(err)
			}
			c.finish()
			if records := gates(t, c.dir); len(records) != 1 || records[0].Outcome != coord.GateRecorded {
				t.Fatalf("%+v", records)
			}
			isOf(t, filepath.Join(c.dir, "gate", "record.json"), run, weights)
		})
	}
}

// isOf checks that a file holds the record of the test trainer's gradient at these weights.
func isOf(t *testing.T, path string, run runfile.Run, weights []float32) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := gate.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range run.Table() {
		g := make([]float32, m.Size())
		attachtest.Gradient(attach.Piece{Name: m.Name, Offset: make([]int, len(m.Shape)), Extent: m.Shape}, g, weights[m.Offset:m.Offset+m.Size()])
		want := gate.Project(run.Seed, i, 0, g)
		if d := got.Tensors[i].Squares - want.Squares; math.Abs(d) > 1e-9*want.Squares {
			t.Errorf("%s: %s: squares are off by %v", path, m.Name, d)
		}
		for j, p := range want.Along {
			if d := got.Tensors[i].Along[j] - p; math.Abs(d) > 1e-9*(1+want.Squares) {
				t.Errorf("%s: %s: projection %d is off by %v", path, m.Name, j, d)
			}
		}
	}
}

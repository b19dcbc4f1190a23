package serve

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

// saved writes a checkpoint of a model drawn from another seed, and gives its folder
// and weights.
func saved(t *testing.T, cfg model.Config) (string, []float32) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	params := make([]float32, cfg.Size())
	engine.InitParams(cfg, 77, params)
	w, err := store.Begin(ctx, st, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Tensors(ctx, ModelPart, tensorsOf(cfg.Tensors(), params), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(ctx, Meta{Model: &cfg, Origin: json.RawMessage(`{"family":"bailing_moe"}`)}); err != nil {
		t.Fatal(err)
	}
	return dir, params
}

// A run begins with the weights of another, knows where that model once came from,
// and may be trained in another way.
func TestFirstWeightsOfACheckpoint(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir, want := saved(t, cfg)
	other := cfg
	other.Name, other.BalanceCoef, other.RoutingWarmupTokens, other.RoutingWarmupWindow = "other", 0.5, 1000, 10
	for _, run := range []model.Config{cfg, other} {
		op := &opened{run: runfile.Default().WithConfig(run, dir)}
		params := make([]float32, run.Size())
		w, err := op.firstWeights(context.Background(), params)
		if err != nil || len(w.digest) != 64 || !strings.Contains(string(op.origin), `"bailing_moe"`) {
			t.Fatalf("%v, digest %q, origin %s", err, w.digest, op.origin)
		}
		at := 0
		for _, tensor := range run.Tensors() {
			for i, v := range params[tensor.Offset : tensor.Offset+tensor.Size()] {
				if tensor.Kind == model.State {
					if v != 0 {
						t.Fatalf("%s begins at %v", tensor.Name, v)
					}
					continue
				}
				if math.Float32bits(v) != math.Float32bits(want[at]) {
					t.Fatalf("%s: element %d is %v, wanted %v", tensor.Name, i, v, want[at])
				}
				at++
			}
		}
	}
}

// Another model than the run file's is refused by the first key that differs.
func TestFirstWeightsOfAnotherModel(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := saved(t, cfg)
	cfg.TopK = 3
	op := &opened{run: runfile.Default().WithConfig(cfg, dir)}
	_, err = op.firstWeights(context.Background(), make([]float32, cfg.Size()))
	var in *fault.Input
	if !errors.As(err, &in) || in.Where != "model.top_k" || in.Value != "3" || !strings.Contains(in.Problem, "is 2") {
		t.Error(err)
	}
	op.run = runfile.Default().WithConfig(cfg, t.TempDir())
	if _, err := findFirst(context.Background(), op.run); !errors.Is(err, store.ErrNoCheckpoint) {
		t.Errorf("a folder without a checkpoint gives %v", err)
	}
}

package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// A run of a model of the user's own has nothing to sample from or to export, which is
// said on one line, and its weights are the beginning of another run of that model.
func TestCheckpointOfOwnModel(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.Begin(ctx, st, 1)
	if err == nil {
		err = w.Tensors(ctx, serve.ModelPart, []store.Tensor{{Name: "w", Shape: []int{2}, F32: []float32{1, 2}}}, nil)
	}
	if err == nil {
		_, err = w.Commit(ctx, serve.Meta{Tensors: []serve.SavedTensor{{Name: "w", Shape: []int{2}, State: true}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	env := &Env{Stdout: io.Discard, Stderr: io.Discard}
	_, _, err = openCheckpoint(ctx, env, dir)
	var in *fault.Input
	if !errors.As(err, &in) || !strings.Contains(err.Error(), "a model of your own") || !strings.Contains(err.Error(), "model.safetensors") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	run, err := startFrom(env, runfile.Default(), &trainFlags{from: dir})
	if err != nil || !run.Model.Foreign() || len(run.Model.Tensors) != 1 || !run.Model.Tensors[0].State || run.Model.From == "" || run.Model.Preset != "" {
		t.Errorf("%+v, %v", run.Model, err)
	}
}

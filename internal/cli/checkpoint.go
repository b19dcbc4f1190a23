package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// modelPart is the part of a checkpoint that holds the global parameters.
const modelPart = "model.safetensors"

// checkpointsFolder holds the checkpoints of a run.
const checkpointsFolder = "checkpoints"

// checkpointMeta is what sampling needs of a manifest.
type checkpointMeta struct {
	Model        model.Config `json:"model"`
	Tokens       int64        `json:"tokens"`
	SampleTokens int          `json:"sample_tokens"` // of a training sequence
}

// openedModel is a model of a checkpoint, ready to write.
type openedModel struct {
	engine *engine.Engine
	meta   checkpointMeta
	path   string
}

// openModel loads the model of a run's newest whole checkpoint or of one checkpoint,
// after comparing everything with its digest.
func openModel(ctx context.Context, env *Env, from string) (*openedModel, error) {
	c, err := findCheckpoint(ctx, env, from)
	if err != nil {
		return nil, err
	}
	if err := c.Verify(ctx); err != nil {
		return nil, err
	}
	m := &openedModel{path: c.Path()}
	if err := c.Meta(&m.meta); err != nil {
		return nil, err
	}
	if err := m.meta.Model.Validate(); err != nil {
		return nil, fmt.Errorf("the model in %s: %w", c.Path(), err)
	}
	if m.engine, err = newEngine(m.meta); err != nil {
		return nil, err
	}
	if err := load(ctx, c, m.meta.Model, m.engine.Params()); err != nil {
		m.engine.Close()
		return nil, err
	}
	return m, nil
}

// load fills the parameters; a tensor that is missing is an error that names it.
func load(ctx context.Context, c store.Checkpoint, cfg model.Config, params []float32) error {
	f, err := c.Tensors(ctx, modelPart)
	if err != nil {
		return err
	}
	defer f.Close()
	var tensors []store.Tensor
	for _, t := range cfg.Tensors() {
		tensors = append(tensors, store.Tensor{Name: t.Name, Shape: t.Shape, F32: params[t.Offset : t.Offset+t.Size()]})
	}
	return f.ReadAll(tensors)
}

// findCheckpoint finds what a user means by a folder.
func findCheckpoint(ctx context.Context, env *Env, from string) (store.Checkpoint, error) {
	const next = "give the folder of a run, or of a checkpoint in it"
	info, err := os.Stat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return store.Checkpoint{}, usage("--from", from, "does not exist", next)
	case err != nil:
		return store.Checkpoint{}, usage("--from", from, "cannot be read: "+reason(err), next)
	case !info.IsDir():
		return store.Checkpoint{}, usage("--from", from, "is not a folder", next)
	}
	if run, number, ok := asCheckpoint(from); ok {
		st, err := store.OpenFolder(run)
		if err != nil {
			return store.Checkpoint{}, err
		}
		return store.Load(ctx, st, number)
	}
	st, err := store.OpenFolder(from)
	if err != nil {
		return store.Checkpoint{}, err
	}
	c, incomplete, err := store.Newest(ctx, st)
	if err != nil {
		return c, err
	}
	for _, i := range incomplete {
		fmt.Fprintf(env.Stderr, "mistura: passed over %s\n", oneLine(i.String()))
	}
	return c, nil
}

// asCheckpoint takes a path apart that ends in checkpoints/NUMBER.
func asCheckpoint(from string) (run string, number uint64, ok bool) {
	path, err := filepath.Abs(from)
	if err != nil {
		return "", 0, false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	parent := filepath.Dir(path)
	number, err = strconv.ParseUint(filepath.Base(path), 10, 64)
	return filepath.Dir(parent), number, err == nil && filepath.Base(parent) == checkpointsFolder
}

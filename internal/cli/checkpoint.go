package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/huggingface"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// checkpointMeta is what sampling needs of a manifest.
type checkpointMeta struct {
	Model        model.Config        `json:"model"`   // zero: the model is the user's own
	Tensors      []serve.SavedTensor `json:"tensors"` // of a model of the user's own
	Tokens       int64               `json:"tokens"`
	SampleTokens int                 `json:"sample_tokens"` // of a training sequence

	Tokenizer string              `json:"tokenizer"` // of the text that was trained on; empty: none was
	Origin    *huggingface.Origin `json:"origin"`    // nil: not imported
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
	c, meta, err := openCheckpoint(ctx, env, from)
	if err != nil {
		return nil, err
	}
	m := &openedModel{path: c.Path(), meta: meta}
	if m.engine, err = newEngine(m.meta); err != nil {
		return nil, err
	}
	if err := load(ctx, c, m.meta.Model, m.engine.Params()); err != nil {
		m.engine.Close()
		return nil, err
	}
	return m, nil
}

// openCheckpoint finds a checkpoint, compares everything with its digest, and gives
// what its manifest says.
func openCheckpoint(ctx context.Context, env *Env, from string) (store.Checkpoint, checkpointMeta, error) {
	c, err := findCheckpoint(ctx, env, from)
	if err != nil {
		return c, checkpointMeta{}, err
	}
	if err := c.Verify(ctx); err != nil {
		return c, checkpointMeta{}, err
	}
	meta, err := metaOf(c)
	if err == nil && meta.foreign() {
		err = usage("--from", from, "is of a model of your own, which only your own program can compute",
			"load "+filepath.Join(c.Path(), serve.ModelPart)+" there (safetensors, under your names)")
	}
	return c, meta, err
}

// foreign: the model is none of ours.
func (m checkpointMeta) foreign() bool { return len(m.Tensors) > 0 }

func metaOf(c store.Checkpoint) (checkpointMeta, error) {
	var meta checkpointMeta
	if err := c.Meta(&meta); err != nil {
		return meta, err
	}
	if meta.foreign() {
		return meta, nil
	}
	if err := meta.Model.Validate(); err != nil {
		return meta, fmt.Errorf("the model in %s: %w", c.Path(), err)
	}
	return meta, nil
}

// load fills the parameters; a tensor that is missing is an error that names it.
func load(ctx context.Context, c store.Checkpoint, cfg model.Config, params []float32) error {
	f, err := c.Tensors(ctx, serve.ModelPart)
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
	c, incomplete, err := store.CheckpointAt(ctx, from)
	if err != nil {
		return c, err
	}
	for _, i := range incomplete {
		fmt.Fprintf(env.Stderr, "mistura: passed over %s\n", oneLine(i.String()))
	}
	return c, nil
}

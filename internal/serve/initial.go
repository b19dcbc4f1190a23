package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

// first is the checkpoint that a run's first weights are from.
type first struct {
	store.Checkpoint
	origin     json.RawMessage
	incomplete []store.Incomplete
}

// findFirst finds the checkpoint in model.from, which must hold the run's model.
func findFirst(ctx context.Context, run runfile.Run) (first, error) {
	c, incomplete, err := store.CheckpointAt(ctx, run.Model.From)
	if err != nil {
		return first{}, err
	}
	var meta struct {
		Model   model.Config    `json:"model"`
		Tensors []SavedTensor   `json:"tensors"`
		Origin  json.RawMessage `json:"origin"`
	}
	if err := c.Meta(&meta); err != nil {
		return first{}, err
	}
	if run.Model.Foreign() || len(meta.Tensors) > 0 {
		if problem := otherTensors(meta.Tensors, run); problem != "" {
			return first{}, &fault.Input{
				Where: run.Where("model.from"), Value: run.Model.From, Problem: problem,
				Next: "use --from " + run.Model.From + ", which takes the model from there",
			}
		}
		return first{Checkpoint: c, incomplete: incomplete}, nil
	}
	if key := otherModel(meta.Model, run.Model.Config); key != "" {
		return first{}, &fault.Input{
			Where: run.Where("model." + key), Value: fmt.Sprint(valueOf(run.Model.Config, key)),
			Problem: fmt.Sprintf("is %v in the model that the first weights are from (%s)", valueOf(meta.Model, key), c.Path()),
			Next:    "use --from " + run.Model.From + ", which takes the model from there",
		}
	}
	return first{Checkpoint: c, origin: meta.Origin, incomplete: incomplete}, nil
}

// firstWeights fills the parameters of a new run: drawn from its seed, or those of
// the checkpoint, file or island in model.from. Moments, clocks and state that the
// checkpoint does not have begin as in any new run.
func (op *opened) firstWeights(ctx context.Context, params []float32) (w weights, err error) {
	if !op.run.Model.Foreign() {
		engine.InitParams(op.run.Model.Config, op.run.Seed, params)
	}
	switch {
	case op.run.Model.From == "":
		return w, op.drawable()
	case op.run.Model.From == runfile.FromSeed:
		w, err = fileWeights(ctx, op.seedPath(), op.run, params)
	case op.run.Model.FromFile():
		w, err = fileWeights(ctx, op.run.Model.From, op.run, params)
		op.notes = append(op.notes, "first weights: "+op.run.Model.From)
	default:
		w.digest, err = op.checkpointWeights(ctx, params)
	}
	op.notes = append(op.notes, w.casts...)
	return w, err
}

// drawable refuses a model whose first weights nobody knows how to draw.
func (op *opened) drawable() error { return drawable(op.run) }

func drawable(run runfile.Run) error {
	if !run.Model.Foreign() {
		return nil
	}
	return &fault.Input{
		Where: run.Where("model.from"), Problem: "is empty, and only you know how the weights of a model of your own are drawn",
		Next: "give a .safetensors file, or write seed and mark the island that has them (seed: true)",
	}
}

// checkpointWeights are those of the checkpoint in model.from, and the digest of their file.
func (op *opened) checkpointWeights(ctx context.Context, params []float32) (digest string, err error) {
	c, err := findFirst(ctx, op.run)
	if err != nil {
		return "", err
	}
	if err := c.Verify(ctx); err != nil {
		return "", err
	}
	if err := readWeights(ctx, c.Checkpoint, op.run.Table(), params); err != nil {
		return "", err
	}
	op.origin = c.origin
	for _, i := range c.incomplete {
		op.notes = append(op.notes, i.String()+"; not used")
	}
	op.notes = append(op.notes, "first weights: "+c.Path())
	for _, p := range c.Parts() {
		if p.Name == ModelPart {
			digest = p.SHA256
		}
	}
	return digest, nil
}

// readWeights reads every tensor of the model. State of training may be missing and
// keeps what it has, and may be in the file and stay there.
func readWeights(ctx context.Context, c store.Checkpoint, table []model.Tensor, params []float32) error {
	f, err := c.Tensors(ctx, ModelPart)
	if err != nil {
		return err
	}
	defer f.Close()
	there := map[string]bool{}
	for _, info := range f.Tensors() {
		there[info.Name] = true
	}
	for _, t := range table {
		if t.Kind == model.State && !there[t.Name] {
			continue
		}
		if err := f.ReadF32(t.Name, params[t.Offset:t.Offset+t.Size()]); err != nil {
			return err
		}
	}
	return nil
}

// otherModel is the first key by which two configurations are different models. How
// they are trained may differ.
func otherModel(a, b model.Config) string {
	for _, key := range modelKeys() {
		if valueOf(a, key) != valueOf(b, key) && !slices.Contains(model.TrainingKeys(), key) {
			return key
		}
	}
	return ""
}

func modelKeys() []string {
	var keys []string
	for i := range reflect.TypeFor[model.Config]().NumField() {
		keys = append(keys, reflect.TypeFor[model.Config]().Field(i).Tag.Get("yaml"))
	}
	return keys
}

// valueOf is the value of a key of a model.
func valueOf(c model.Config, key string) any {
	for i, k := range modelKeys() {
		if k == key {
			return reflect.ValueOf(c).Field(i).Interface()
		}
	}
	return nil
}

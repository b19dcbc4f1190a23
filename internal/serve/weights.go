package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

// weights is where the first weights of a run are from.
type weights struct {
	digest string   // SHA-256 of their file; empty: they are drawn
	casts  []string // what was done to them, a line for each kind
}

// adopt fills in the tensors of a model of the user's own that only the file of its
// first weights tells.
func adopt(run runfile.Run) (runfile.Run, error) {
	if !run.Model.Foreign() || !run.Model.FromFile() || len(run.Model.Tensors) > 0 {
		return run, nil
	}
	f, err := store.OpenTensorFile(run.Model.From)
	if err != nil {
		return run, weightsFault(run, err)
	}
	defer f.Close()
	return withTensors(run, f.Tensors(), f.Meta())
}

// withTensors is the run of the model that a file of weights holds.
func withTensors(run runfile.Run, infos []store.TensorInfo, meta map[string]string) (runfile.Run, error) {
	state, err := stateOf(meta)
	if err != nil {
		return run, err
	}
	var tensors []runfile.Tensor
	for _, i := range infos {
		tensors = append(tensors, runfile.Tensor{Name: i.Name, Shape: i.Shape, State: state[i.Name]})
	}
	if len(tensors) == 0 {
		return run, &fault.Input{Where: run.Where("model.from"), Value: run.Model.From, Problem: "holds no tensor", Next: "give the weights of a model"}
	}
	return run.WithTensors(tensors).Resolve()
}

// weightsFault says of a file of weights what a user can do about it.
func weightsFault(run runfile.Run, err error) error {
	in := (*fault.Input)(nil)
	if !errors.As(err, &in) {
		return err
	}
	named := *in
	named.Next = fmt.Sprintf("give the weights of this model in F32, BF16 or F16 (%s)", run.Where("model.from"))
	return &named
}

// checkWeights refuses a file of first weights that is not of the run's model, before
// anything is made.
func checkWeights(run runfile.Run) error {
	f, err := store.OpenTensorFile(run.Model.From)
	if err != nil {
		return weightsFault(run, err)
	}
	defer f.Close()
	return weightsFault(run, matches(f.Reader, run.Table()))
}

// matches compares the tensors of a file with those of a model.
func matches(r *store.Reader, table []model.Tensor) error {
	return r.MatchWide(tensorsOf(table, nil))
}

// fileWeights reads first weights from a file of tensors.
func fileWeights(ctx context.Context, path string, run runfile.Run, params []float32) (weights, error) {
	f, err := store.OpenTensorFile(path)
	if err != nil {
		return weights{}, weightsFault(run, err)
	}
	defer f.Close()
	if err := f.ReadAllWide(tensorsOf(run.Table(), params)); err != nil {
		return weights{}, weightsFault(run, err)
	}
	w := weights{casts: castsOf(f.Tensors())}
	w.digest, err = fileDigest(ctx, path)
	return w, err
}

// castsOf is a line for each kind of cast (D16).
func castsOf(infos []store.TensorInfo) []string {
	tensors, elements := map[string]int{}, map[string]int{}
	for _, i := range infos {
		tensors[i.Dtype]++
		elements[i.Dtype] += (model.Tensor{Shape: i.Shape}).Size()
	}
	delete(tensors, "F32")
	var out []string
	for _, dtype := range slices.Sorted(maps.Keys(tensors)) {
		out = append(out, fmt.Sprintf("cast %s to F32: %d tensors, %d elements; no value changes", dtype, tensors[dtype], elements[dtype]))
	}
	return out
}

// fileDigest is the SHA-256 of a file.
func fileDigest(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, untilDone{ctx, f}); err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// stateOf reads which tensors no gradient reaches; where nothing is said none is state.
func stateOf(meta map[string]string) (map[string]bool, error) {
	if meta[store.StateKey] == "" {
		return nil, nil
	}
	var names []string
	if err := json.Unmarshal([]byte(meta[store.StateKey]), &names); err != nil {
		return nil, fmt.Errorf("metadata %q is not a list of names: %w", store.StateKey, err)
	}
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out, nil
}

// seedPath is where the upload of the island marked seed lies.
func (op *opened) seedPath() string { return filepath.Join(op.store.Location(), SeedName) }

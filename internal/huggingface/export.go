package huggingface

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// Origin is what a model has of the folder that it was imported from. It stays with
// the model through training.
type Origin struct {
	Family    string                     `json:"family"`
	Dtype     string                     `json:"dtype"`     // of the weights, as config.json had it
	Casts     []string                   `json:"casts"`     // what was done to them
	Positions int                        `json:"positions"` // max_position_embeddings; 0: not said
	Carried   map[string]json.RawMessage `json:"carried"`   // fields of config.json that do not change what is computed
}

// Model is a model that is to be written.
type Model struct {
	Config    model.Config
	Origin    *Origin // nil: of no such folder
	Positions int     // tokens of a training sequence: max_position_embeddings, unless Origin has it; 0: not said
	EndToken  int     // that ends a document, unless Origin has one; -1: none

	// Weights gives the bytes of a tensor of the model, float32.
	Weights func(name string) (*io.SectionReader, error)
}

// Options of Export.
type Options struct {
	Family     string // empty: the one that the model came from, or else the first that can express it
	Dtype      string // FP32 or BF16
	Layout     string // Split or Grouped
	ShardBytes int64  // of the tensors in one file at most, if they are several; 0: no bound
}

// Number formats of an export.
const (
	FP32 = "fp32"
	BF16 = "bf16"
)

// Layouts of experts.
const (
	Split   = "split"   // three tensors for each expert
	Grouped = "grouped" // two tensors for all experts of a layer
)

// Written is what an export has made.
type Written struct {
	Family     string   `json:"family"`
	Dtype      string   `json:"dtype"`
	Layout     string   `json:"layout"`
	Parameters int64    `json:"parameters"`
	Tensors    int      `json:"tensors"`
	Files      []string `json:"files"`
	Bytes      int64    `json:"bytes"`     // of all tensors, headers apart
	KeptFP32   []string `json:"kept_fp32"` // tensors of a bf16 export that are fp32
	LeftOut    []string `json:"left_out"`  // tensors of the model that are state of training
}

// shard is one file of weights.
type shard struct {
	name    string
	tensors []store.Stream
	bytes   int64 // of the tensors
}

// Export writes a model into a new folder that the family's code reads. The folder
// appears whole or not at all.
func Export(ctx context.Context, dir string, m Model, o Options) (Written, error) {
	fam, err := m.family(o.Family)
	if err != nil {
		return Written{}, err
	}
	if o.Layout == Grouped && !fam.grouped {
		return Written{}, &fault.Input{Where: "--experts", Value: o.Layout, Problem: "the code of " + fam.name + " reads no such layout", Next: "use --experts " + Split}
	}
	if err := free(dir); err != nil {
		return Written{}, err
	}
	w := m.plan(fam, o)
	return w.Written, publish(ctx, dir, w)
}

// family is the one to write, which must be able to express the model.
func (m Model) family(name string) (family, error) {
	where := "--family"
	if name == "" && m.Origin != nil {
		name, where = m.Origin.Family, "the family that the model came from"
	}
	if name == "" {
		first, err := firstFit(m.Config)
		if err != nil {
			return family{}, err
		}
		name = first
	}
	fam, err := familyNamed(where, name)
	if err != nil {
		return family{}, err
	}
	return fam, fam.unfit(m.Config)
}

// free demands that nothing is in the way.
func free(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &fault.Input{Where: "folder", Value: dir, Problem: "cannot be used", Next: "give a new folder", Err: systemReason(err)}
	case len(entries) > 0:
		return &fault.Input{Where: "folder", Value: dir, Problem: "is not empty", Next: "give a new folder"}
	}
	return nil
}

// writing is an export that is about to be written.
type writing struct {
	Written
	small  map[string][]byte // files beside the weights
	shards []shard
}

func (m Model) plan(fam family, o Options) writing {
	w := writing{Written: Written{Family: fam.name, Dtype: o.Dtype, Layout: o.Layout, KeptFP32: []string{}, LeftOut: []string{}}}
	covered := map[string]bool{}
	var streams []store.Stream
	for _, t := range fam.fileTensors(m.Config, o.Layout == Grouped) {
		for _, part := range t.parts {
			covered[part.Name] = true
			w.Parameters += int64(part.Size())
		}
		s := m.stream(t, o.Dtype)
		if o.Dtype == BF16 && t.fp32 {
			w.KeptFP32 = append(w.KeptFP32, t.name)
		}
		w.Bytes += streamBytes(s)
		streams = append(streams, s)
	}
	for _, t := range m.Config.Tensors() {
		if !covered[t.Name] {
			w.LeftOut = append(w.LeftOut, t.Name)
		}
	}
	w.Tensors = len(streams)
	w.shards = split(streams, o.ShardBytes)
	for _, s := range w.shards {
		w.Files = append(w.Files, s.name)
	}
	w.small = m.smallFiles(fam, o)
	return w
}

// streamBytes is the size of a tensor. Its shape is a valid model's.
func streamBytes(s store.Stream) int64 {
	n := int64(store.WideBytes(s.Dtype))
	for _, extent := range s.Shape {
		n *= int64(extent)
	}
	return n
}

// split spreads tensors over files in their order.
func split(streams []store.Stream, most int64) []shard {
	var out []shard
	for _, s := range streams {
		n := streamBytes(s)
		if len(out) == 0 || most > 0 && out[len(out)-1].bytes+n > most {
			out = append(out, shard{})
		}
		last := &out[len(out)-1]
		last.tensors, last.bytes = append(last.tensors, s), last.bytes+n
	}
	for i := range out {
		out[i].name = singleName
		if len(out) > 1 {
			out[i].name = fmt.Sprintf("model-%05d-of-%05d%s", i+1, len(out), extension)
		}
	}
	return out
}

// stream writes a tensor of the files from the tensors of the model.
func (m Model) stream(t fileTensor, dtype string) store.Stream {
	kind := typeF32
	if dtype == BF16 && !t.fp32 {
		kind = typeBF16
	}
	return store.Stream{Name: t.name, Dtype: kind, Shape: t.shape, Write: func(w io.Writer) error {
		if len(t.parts) == 0 {
			_, err := w.Write(make([]byte, store.WideBytes(kind)*t.size()))
			return err
		}
		for _, part := range t.parts {
			section, err := m.Weights(part.Name)
			if err != nil {
				return err
			}
			if want := int64(store.WideBytes(typeF32) * part.Size()); section.Size() != want {
				return fmt.Errorf("%s: %d bytes are there, %d are wanted", part.Name, section.Size(), want)
			}
			if err := narrow(w, section, kind, part.Size()); err != nil {
				return fmt.Errorf("%s: %w", part.Name, err)
			}
		}
		return nil
	}}
}

// publish writes everything under another name and then gives the folder its own.
func publish(ctx context.Context, dir string, w writing) (err error) {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return &fault.Input{Where: "folder", Value: dir, Problem: "cannot be made", Next: "give another folder", Err: systemReason(err)}
	}
	if err := space(ctx, parent, w); err != nil {
		return err
	}
	folder, err := store.MakeFolder(dir)
	if in := (*fault.Input)(nil); errors.As(err, &in) {
		return err
	}
	if err != nil {
		return &fault.Input{Where: "folder", Value: dir, Problem: "cannot be made", Next: "give another folder", Err: systemReason(err)}
	}
	defer func() { err = errors.Join(DiskFull(dir, err), folder.Close()) }()
	st, err := store.OpenFolder(folder.Dir())
	if err != nil {
		return err
	}
	for _, s := range w.shards {
		write := func(out io.Writer) error {
			return store.WriteStreams(out, s.tensors, map[string]string{"format": "pt"})
		}
		if _, err := st.Put(ctx, s.name, write); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	if len(w.shards) > 1 {
		if w.small[indexName], err = marshalIndex(w.shards, w.Bytes); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	for _, name := range sortedKeys(w.small) {
		write := func(out io.Writer) error {
			_, err := out.Write(w.small[name])
			return err
		}
		if _, err := st.Put(ctx, name, write); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return folder.Publish()
}

// space refuses an export that the disk cannot take.
func space(ctx context.Context, parent string, w writing) error {
	need := int64(0)
	for _, s := range w.shards {
		n, err := store.StreamsSize(s.tensors, nil)
		if err != nil {
			return err
		}
		need += n
	}
	return CheckSpace(ctx, parent, need)
}

// DiskFull says it plainly when an error is that dir's disk has no space left: others
// may fill it while we write.
func DiskFull(dir string, err error) error {
	if !errors.Is(err, store.ErrFull) {
		return err
	}
	return &fault.Input{Where: "folder", Value: dir, Problem: "its disk is full, and nothing of the model was left there", Next: "make space or choose another place"}
}

// CheckSpace refuses to write bytes into a folder whose disk has fewer.
func CheckSpace(ctx context.Context, dir string, need int64) error {
	st, err := store.OpenFolder(dir)
	if err != nil {
		return err
	}
	free, known, err := st.FreeBytes(ctx)
	if err != nil || !known || free >= need {
		return err
	}
	return &fault.Input{Where: st.Location(), Problem: fmt.Sprintf("the model takes %d bytes, %d are free", need, free), Next: "make space or choose another place"}
}

// object is a JSON object that is being made.
type object map[string]any

func (o object) set(field string, value any) { o[field] = value }

func (o object) setUnless(field string, value any) {
	if _, ok := o[field]; !ok {
		o[field] = value
	}
}

// smallFiles are config.json and, where the family has one, generation_config.json.
func (m Model) smallFiles(fam family, o Options) map[string][]byte {
	config := object{}
	if m.Origin != nil && m.Origin.Family == fam.name {
		for field, value := range m.Origin.Carried {
			if !slices.Contains(notGivenBack(), field) {
				config[field] = value
			}
		}
	}
	if m.EndToken >= 0 {
		config.setUnless("eos_token_id", m.EndToken)
	}
	positions := m.Positions
	if m.Origin != nil && m.Origin.Positions > 0 {
		positions = m.Origin.Positions
	}
	if positions > 0 {
		config.set("max_position_embeddings", positions)
	}
	fam.write(m.Config, config)
	config.set("model_type", fam.types[0])
	config.set("architectures", []string{fam.architecture})
	config.set("torch_dtype", map[string]string{FP32: "float32", BF16: "bfloat16"}[o.Dtype])
	config.setUnless("use_cache", true)
	files := map[string][]byte{configName: mustMarshal(config)}
	if fam.generation {
		generation := object{"_from_model_config": true}
		for _, field := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
			if value, ok := config[field]; ok && value != nil {
				generation[field] = value
			}
		}
		files["generation_config.json"] = mustMarshal(generation)
	}
	return files
}

// mustMarshal writes values that were JSON before, or are numbers and text.
func mustMarshal(o object) []byte {
	data, err := json.MarshalIndent(maps.Clone(map[string]any(o)), "", "  ")
	if err != nil {
		panic("huggingface: " + err.Error())
	}
	return append(data, '\n')
}

package serve

import (
	"encoding/json"
	"errors"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// Meta stands in a checkpoint's manifest: what a reader needs to know to use it.
type Meta struct {
	RunID        string               `json:"run_id"`
	Era          uint32               `json:"era"`
	Tokens       int64                `json:"tokens"` // in the model
	Consumed     int64                `json:"consumed_samples"`
	StepSamples  int64                `json:"step_samples"`
	SampleTokens int                  `json:"sample_tokens"`
	Fragments    int                  `json:"fragments"`
	Model        *model.Config        `json:"model,omitempty"`   // absent: the model is the user's own
	Tensors      []SavedTensor        `json:"tensors,omitempty"` // of a model of the user's own
	Tokenizer    string               `json:"tokenizer"`
	DataDigest   string               `json:"data_digest"`
	Seed         uint64               `json:"seed"`
	KernelSet    string               `json:"kernel_set"`
	Run          string               `json:"run_yaml"`
	Islands      map[string]SavedPart `json:"islands"`
	Origin       json.RawMessage      `json:"origin,omitempty"` // of an imported model
}

// SavedTensor is a tensor of a model of the user's own.
type SavedTensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	State bool   `json:"state,omitempty"`
}

// SavedPart is an island's own state in a checkpoint.
type SavedPart struct {
	Incarnation    uint64   `json:"incarnation"`
	Position       uint64   `json:"position_samples"`
	AnchorVersions []uint64 `json:"anchor_versions"`
	SizeBytes      uint64   `json:"size_bytes"`
	Digest         string   `json:"sha256"`

	Layout string      `json:"layout,omitempty"` // on what the island computed, in words
	Slots  []SavedSlot `json:"slots,omitempty"`  // in the part
	Files  []SavedFile `json:"files,omitempty"`  // that the island's trainer saved itself
	Hosts  []SavedHost `json:"hosts,omitempty"`  // further hosts of the island, each with a part of its own

	carried bool // of the checkpoint before: its island has not begun with it
}

// SavedHost is what a host of an island beside its first has written.
type SavedHost struct {
	Host      int    `json:"host"` // from 1
	SizeBytes uint64 `json:"size_bytes"`
	Digest    string `json:"sha256"`
}

// SavedSlot is the digest of an island's weights or of one of its moments, gathered over
// all its ranks.
type SavedSlot struct {
	Slot   string `json:"slot"`
	Digest string `json:"sha256"`
}

// SavedFile is a file that the trainer saved: within the run folder under its name there,
// for the folder may be moved; elsewhere at the absolute path that its host has for it.
type SavedFile struct {
	Rank      uint32 `json:"rank"`
	Path      string `json:"path"`
	SizeBytes uint64 `json:"size_bytes"`
	Digest    string `json:"sha256"`
}

// modelOf tells a run's model: by its configuration, or by its tensors if it is the user's own.
func modelOf(run runfile.Run) (*model.Config, []SavedTensor) {
	if !run.Model.Foreign() {
		cfg := run.Model.Config
		return &cfg, nil
	}
	var tensors []SavedTensor
	for _, t := range run.Model.Tensors {
		tensors = append(tensors, SavedTensor{Name: t.Name, Shape: append([]int{}, t.Shape...), State: t.State})
	}
	return nil, tensors
}

// otherTensors says how the tensors of a checkpoint are not those of a run, or nothing.
func otherTensors(saved []SavedTensor, run runfile.Run) string {
	switch {
	case len(saved) == 0:
		return "is of one of our models, and the run's is your own"
	case !run.Model.Foreign():
		return "is of a model of your own, and the run's is one of ours"
	}
	var own []model.Named
	for _, t := range saved {
		own = append(own, model.Named{Name: t.Name, Shape: t.Shape, State: t.State})
	}
	in := (*fault.Input)(nil)
	if errors.As(model.Unlike(run.Table(), own), &in) {
		return "is of another model: parameter " + in.Value + " " + in.Problem
	}
	return ""
}

// savedFile is how the checkpoint of a run in a folder names a trainer's file.
func savedFile(f *wire.StateFile, folder string) SavedFile {
	path := f.Path
	if within, err := filepath.Rel(folder, path); err == nil && filepath.IsLocal(within) {
		path = filepath.ToSlash(within)
	}
	return SavedFile{f.Rank, path, f.SizeBytes, f.Digest}
}

// from is the file's path where the run's folder is.
func (f SavedFile) from(folder string) string {
	if filepath.IsAbs(f.Path) {
		return f.Path
	}
	return filepath.Join(folder, filepath.FromSlash(f.Path))
}

// files are the trainer's own, as its ranks find them.
func (p SavedPart) files(folder string) (out []*wire.StateFile) {
	for _, f := range p.Files {
		out = append(out, &wire.StateFile{Rank: f.Rank, Path: f.from(folder), SizeBytes: f.SizeBytes, Digest: f.Digest})
	}
	return out
}

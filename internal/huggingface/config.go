package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
)

// configName is the file that describes a model.
const configName = "config.json"

// Description is what a config.json says.
type Description struct {
	Family    string
	Config    model.Config
	Positions int    // max_position_embeddings; 0: not said
	Dtype     string // of the weights as the file has it ("bfloat16"); empty: not said

	// Carried are fields that do not change what the model computes, such as token
	// numbers; an export gives them back.
	Carried map[string]json.RawMessage
}

// ReadConfig reads a config.json, or the one in a folder.
func ReadConfig(path string) (Description, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, configName)
	}
	data, err := readSmall(path, maxConfigBytes)
	if err != nil {
		return Description{}, err
	}
	d, err := parseConfig(path, data)
	if err != nil {
		return d, err
	}
	d.Config.Name = nameFor(path, d.Family)
	return d, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &fault.Input{Where: path, Problem: "cannot be read", Next: "give the folder of a model, with config.json in it", Err: systemReason(err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, &fault.Input{Where: path, Problem: "cannot be read", Next: "give the folder of a model, with config.json in it", Err: systemReason(err)}
	}
	if int64(len(data)) > limit {
		return nil, &fault.Input{Where: path, Problem: fmt.Sprintf("has more than %d bytes", limit), Next: "give the folder of a model"}
	}
	return data, nil
}

// systemReason leaves out the path, which the message names already.
func systemReason(err error) error {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// parseConfig maps a config.json. The file's name stands in errors.
func parseConfig(where string, data []byte) (Description, error) {
	f, err := parseFields(where, data)
	if err != nil {
		return Description{}, err
	}
	fam, err := familyOf(f)
	if err != nil {
		return Description{}, err
	}
	d := Description{Family: fam.name}
	d.Config = fam.read(f)
	if d.Positions = f.intOr("max_position_embeddings", 0); d.Positions < 0 {
		f.refuse("max_position_embeddings", "is negative", "use a positive number")
	}
	d.Dtype = f.textOr("torch_dtype", f.textOr("dtype", ""))
	f.absent("quantization_config")
	d.Carried = f.carry(append(withoutBearing(), fam.carried...))
	if err := f.finish(); err != nil {
		return Description{}, err
	}
	if err := d.Config.Validate(); err != nil {
		return Description{}, fam.inTheirWords(f, err)
	}
	return d, nil
}

// familyOf finds the family by model_type and architecture: "bailing_moe" is the
// type of two of them, and the published class of Ling 2.0 saves an empty one.
func familyOf(f *fields) (family, error) {
	kind := f.textOr("model_type", "")
	var architectures []string
	f.get("architectures", &architectures, "a list of names")
	if f.err != nil {
		return family{}, f.err
	}
	var fits []family
	for _, fam := range families() {
		if kind == "" || slices.Contains(fam.types, kind) {
			fits = append(fits, fam)
		}
	}
	if len(fits) == 0 {
		return family{}, f.bad("model_type", "is no family that can be read", "the families are "+strings.Join(Families(), ", "))
	}
	for _, fam := range fits {
		if slices.Contains(architectures, fam.architecture) || len(architectures) == 0 && fam.name == kind {
			return fam, nil
		}
	}
	if len(architectures) == 0 {
		return family{}, f.bad("architectures", "is missing, and model_type alone does not name the family", "the architectures are "+architecturesOf(fits))
	}
	return family{}, f.bad("architectures", "is no architecture that can be read", "the architectures are "+architecturesOf(fits))
}

func architecturesOf(fams []family) string {
	var names []string
	for _, fam := range fams {
		names = append(names, fam.architecture)
	}
	return strings.Join(names, ", ")
}

// inTheirWords names the field of config.json for what the model finds wrong with
// itself.
func (fam family) inTheirWords(f *fields, err error) error {
	var in *fault.Input
	if !errors.As(err, &in) {
		return err
	}
	field, ok := fam.words[in.Where]
	if !ok {
		field = in.Where
	}
	return &fault.Input{Where: f.where + ": " + field, Value: in.Value, Problem: in.Problem, Next: in.Next}
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// nameFor makes a name for the model out of its folder's. Names of runs and folders
// are made of it, so only what is safe there is kept.
func nameFor(path, otherwise string) string {
	const most = 48
	abs, err := filepath.Abs(path)
	if err != nil {
		return otherwise
	}
	name := strings.TrimLeft(notInNames.ReplaceAllString(filepath.Base(filepath.Dir(abs)), "-"), ".-")
	if name = name[:min(len(name), most)]; name == "" {
		return otherwise
	}
	return name
}

package runfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/sheet"
)

// maxBytes bounds a run file, which may list every tensor of a model.
const maxBytes = 32 << 20

// Parse reads a run file over the built-in run. The name stands in errors, all of
// which are *fault.Input. Values are checked by Resolve.
func Parse(name string, data []byte) (Run, error) {
	if len(data) > maxBytes {
		return Run{}, &fault.Input{Where: name, Problem: fmt.Sprintf("has %d bytes, a run file has at most %d", len(data), maxBytes), Next: "give the run file, not the data"}
	}
	rest, tensors := cutTensors(data)
	r, err := parse(name, rest)
	if err == nil && tensors != nil {
		r.Model.Tensors = tensors
	}
	return r, err
}

// parse is Parse by the YAML library alone.
func parse(name string, data []byte) (Run, error) {
	d := &sheet.Reader{File: name, Page: "docs/formats/run.md", Sample: "tokens: 400k", Holds: "run", Hint: nextStep, Keys: Keys, Entry: entry}
	root, err := d.Parse(data)
	if err != nil {
		return Run{}, err
	}
	r := Default()
	r.origin = origin{file: name, lines: d.Lines}
	if len(root.Keys()) == 0 {
		return r, nil
	}
	if r.Model, err = modelOf(d, root); err != nil {
		return Run{}, err
	}
	if err := d.Read(root, &r); err != nil {
		return Run{}, err
	}
	return r, nil
}

// entry is a new entry of a list before it is read.
func entry(e any) {
	if island, ok := e.(*Island); ok {
		island.Pace = 1
	}
}

// WithModel replaces the whole model section by a preset.
func (r Run) WithModel(name string) (Run, error) {
	cfg, err := model.Preset(name)
	if err != nil {
		return r, r.fault("model.preset", name, "no such preset", "choose one of "+presets())
	}
	r.Model = Model{Preset: name, Config: cfg}
	return r, nil
}

// WithConfig replaces the whole model section by a model that is no preset, and by
// the folder of its first weights; from is empty if they are drawn. What the file
// says about how the model is trained stays.
func (r Run) WithConfig(cfg model.Config, from string) Run {
	said, fields := sheet.Fields(reflect.ValueOf(r.Model.Config)), sheet.Fields(reflect.ValueOf(&cfg).Elem())
	for _, key := range model.TrainingKeys() {
		if _, ok := r.origin.lines["model."+key]; ok {
			fields[key].Set(said[key])
		}
	}
	r.Model = Model{From: from, Config: cfg}
	return r
}

// modelOf gives the model section with its preset filled in: the base that the
// section's other keys are then read over.
func modelOf(d *sheet.Reader, root sheet.Section) (Model, error) {
	section, _ := root.Child("model").Section()
	node := section.Child("preset")
	name, single := node.Text()
	switch {
	case !single && foreign(section):
		return Model{}, nil
	case !single:
		return preset(DefaultPreset), nil
	case name == "":
		return Model{}, nil
	}
	cfg, err := model.Preset(name)
	if err != nil {
		return Model{}, d.Fault(node, "model.preset", name, "no such preset", "choose one of "+presets())
	}
	return Model{Preset: name, Config: cfg}, nil
}

// foreign: the model section tells of a model that is not ours.
func foreign(section sheet.Section) bool {
	from, _ := section.Child("from").Text()
	if strings.HasSuffix(from, tensorSuffix) && !slices.ContainsFunc(section.Keys(), describes) {
		return true // nothing else tells whose model is in the file
	}
	return from == FromSeed || !section.Child("tensors").Empty()
}

// describes: a key of the model section that tells of one of our models.
func describes(key string) bool { return key != "from" && key != "name" }

package runfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
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
	d := &decoder{file: name, lines: map[string]int{}}
	root, err := d.parseYAML(data)
	if err != nil {
		return Run{}, err
	}
	r := Default()
	r.origin = origin{file: name, lines: d.lines}
	if root == nil {
		return r, nil
	}
	if r.Model, err = d.model(root); err != nil {
		return Run{}, err
	}
	if err := d.mapping(root, "", reflect.ValueOf(&r).Elem()); err != nil {
		return Run{}, err
	}
	return r, nil
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
	said, fields := fieldsOf(reflect.ValueOf(r.Model.Config)), fieldsOf(reflect.ValueOf(&cfg).Elem())
	for _, key := range model.TrainingKeys() {
		if _, ok := r.origin.lines["model."+key]; ok {
			fields[key].Set(said[key])
		}
	}
	r.Model = Model{From: from, Config: cfg}
	return r
}

// model gives the model section with its preset filled in: the base that the
// section's other keys are then read over.
func (d *decoder) model(root *ast.MappingNode) (Model, error) {
	name, line := presetOf(root)
	if line == nil && foreign(root) {
		return Model{}, nil
	}
	if line == nil {
		return preset(DefaultPreset), nil
	}
	if name == "" {
		return Model{}, nil
	}
	cfg, err := model.Preset(name)
	if err != nil {
		return Model{}, d.at(line, "model.preset", name, "no such preset", "choose one of "+presets())
	}
	return Model{Preset: name, Config: cfg}, nil
}

// foreign: the model section tells of a model that is not ours.
func foreign(root *ast.MappingNode) bool {
	m, ok := child(root, "model").(*ast.MappingNode)
	if !ok {
		return false
	}
	from, _ := scalar(child(m, "from"))
	if strings.HasSuffix(from, tensorSuffix) && !slices.ContainsFunc(m.Values, describes) {
		return true // nothing else tells whose model is in the file
	}
	return from == FromSeed || child(m, "tensors") != nil && child(m, "tensors").Type() != ast.NullType && !empty(child(m, "tensors"))
}

// describes: a key of the model section that tells of one of our models.
func describes(kv *ast.MappingValueNode) bool {
	key := kv.Key.GetToken().Value
	return key != "from" && key != "name"
}

// empty: a list without entries.
func empty(n ast.Node) bool {
	seq, ok := n.(*ast.SequenceNode)
	return ok && len(seq.Values) == 0
}

// presetOf finds the value of model.preset and its node, nil when there is none.
func presetOf(root *ast.MappingNode) (string, ast.Node) {
	section := child(root, "model")
	m, ok := section.(*ast.MappingNode)
	if !ok {
		return "", nil
	}
	n := child(m, "preset")
	if n == nil {
		return "", nil
	}
	s, ok := scalar(n)
	if !ok {
		return "", nil // refused later, as the wrong kind of value
	}
	return s, n
}

func child(m *ast.MappingNode, key string) ast.Node {
	for _, kv := range m.Values {
		if kv.Key.GetToken().Value == key {
			return kv.Value
		}
	}
	return nil
}

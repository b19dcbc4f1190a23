package runfile

import (
	"reflect"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

func parsed(t *testing.T, text string) Run {
	t.Helper()
	r, err := Parse("run.yaml", []byte(text))
	if err == nil {
		r, err = r.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A model of the user's own is told by a list, by the island marked seed, or by the file
// of its first weights, and stays foreign when the resolved run is read again.
func TestForeignModels(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		tensors int
	}{
		"list":      {"model:\n  tensors:\n    - {name: w, shape: [3, 4]}\n    - {name: s, shape: []}\n    - {name: m, shape: [4], state: true}\nislands: [{engine: external}]", 3},
		"seed":      {"model:\n  from: seed\nislands: [{engine: external, seed: true}]", 0},
		"file":      {"model:\n  from: w.safetensors\nislands: [{engine: external}]", 0},
		"file name": {"model:\n  preset: \"\"\n  from: w.safetensors\n  name: gpt\nislands: [{engine: external}]", 0},
		"name":      {"model:\n  from: w.safetensors\n  name: gpt\nislands: [{engine: external}]", 0},
		"own data":  {"model: {from: seed}\ndata: {own: true}\nislands: [{engine: external, seed: true}]", 0},
	} {
		r := parsed(t, c.text)
		if !r.Model.Foreign() || len(r.Table()) != c.tensors {
			t.Errorf("%s: foreign is %v, %d tensors", name, r.Model.Foreign(), len(r.Table()))
		}
		if again := parsed(t, string(r.Marshal())); again.Model.From != r.Model.From || !reflect.DeepEqual(again.Table(), r.Table()) || !again.Model.Foreign() {
			t.Errorf("%s: comes back as %+v", name, again.Model)
		}
	}
	r := parsed(t, "model:\n  tensors:\n    - {name: w, shape: [3, 4]}\n    - {name: s, shape: []}\n    - {name: m, shape: [4], state: true}\nislands: [{engine: external}]")
	table := r.Table()
	if r.Size() != 17 || table[1].Offset != 12 || table[1].Size() != 1 || table[2].Kind != model.State || table[2].Offset != 13 {
		t.Errorf("%+v", table)
	}
}

// A file of weights tells the model only where nothing else does.
func TestFilesOfOurModels(t *testing.T) {
	r := parsed(t, "model:\n  preset: ling-tiny\n  from: w.safetensors")
	if r.Model.Foreign() || len(r.Table()) != len(r.Model.Config.Tensors()) {
		t.Error("a preset is taken for a foreign model")
	}
}

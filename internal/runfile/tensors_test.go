package runfile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// many is a run with the tensors.
func many(tensors []Tensor) Run {
	r := Default()
	r.Model, r.Islands = Model{From: "w.safetensors", Tensors: tensors}, []Island{{Name: "a", Pace: 1, Engine: External}}
	return r
}

// What is read here is what the YAML library reads, whatever the names.
func TestTensorsAreReadAsYAML(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) Tensor {
			return Tensor{
				Name:  rapid.OneOf(rapid.StringN(1, 12, 40), rapid.StringMatching(`[a-z.0-9_]{1,12}`), rapid.SampledFrom([]string{"yes", "a, b", "x: y", "}", "null", "1", "\"", "#"})).Draw(t, "name"),
				Shape: rapid.SliceOfN(rapid.IntRange(1, 99999), 0, 4).Draw(t, "shape"), State: rapid.Bool().Draw(t, "state"),
			}
		})
		tensors := rapid.SliceOfN(one, 1, 8).Draw(t, "tensors")
		for len(tensors) < manyTensors {
			tensors = append(tensors, tensors[len(tensors)%8%len(tensors)])
		}
		text := many(tensors).Marshal()
		fast, err := Parse("x", text)
		if err != nil {
			t.Fatal(err)
		}
		slow, err := parse("x", text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(fast.Model, slow.Model) || !reflect.DeepEqual(fast.Islands, slow.Islands) || fast.Where("islands") != slow.Where("islands") {
			t.Fatalf("%+v\n%+v", fast.Model, slow.Model)
		}
	})
}

// Only what Marshal writes is read here; anything else, a comment or another order of keys,
// is left to the library.
func TestTensorsInOtherWords(t *testing.T) {
	var lines []string
	for i := range manyTensors {
		lines = append(lines, fmt.Sprintf("    - {name: t%d, shape: [%d], state: false}", i, i+1))
	}
	head, tail := "model:\n  tensors:\n", "\nislands:\n  - {name: a, engine: external}\n"
	for name, c := range map[string]struct {
		text string
		cut  bool
		n    int
	}{
		"as written":     {head + strings.Join(lines, "\n") + tail, true, manyTensors},
		"few":            {head + strings.Join(lines[:9], "\n") + tail, false, 9},
		"another entry":  {head + strings.Join(lines, "\n") + "\n    - {shape: [3], name: z}" + tail, false, manyTensors + 1},
		"a comment":      {head + strings.Join(lines, "\n") + "\n    # more\n    - {shape: [3], name: z}" + tail, false, manyTensors + 1},
		"key behind":     {head + strings.Join(lines, "\n") + "\n  name: gpt" + tail, true, manyTensors},
		"other section":  {"x: 1\ndata:\n  tensors:\n" + strings.Join(lines, "\n") + tail, false, -1},
		"no end of line": {head + strings.Join(lines, "\n"), false, manyTensors},
	} {
		if _, cut := cutTensors([]byte(c.text)); (cut != nil) != c.cut {
			t.Errorf("%s: %d tensors are cut", name, len(cut))
		}
		if r, err := Parse("x", []byte(c.text)); (err == nil) != (c.n >= 0) || err == nil && len(r.Model.Tensors) != c.n {
			t.Errorf("%s: %d tensors, %v", name, len(r.Model.Tensors), err)
		}
	}
}

// FuzzTensors: no file is read otherwise than by the library alone.
func FuzzTensors(f *testing.F) {
	f.Add("model:\n  tensors:\n    - {name: w, shape: [2], state: false}\nislands: []\n")
	f.Fuzz(func(t *testing.T, text string) {
		long := strings.Replace(text, "\n  tensors:\n", "\n  tensors:\n"+strings.Repeat("    - {name: w, shape: [2], state: false}\n", manyTensors), 1)
		fast, err := Parse("x", []byte(long))
		slow, slowErr := parse("x", []byte(long))
		if (err == nil) != (slowErr == nil) {
			t.Fatalf("%v, by the library %v", err, slowErr)
		}
		if err == nil && !reflect.DeepEqual(fast.Model, slow.Model) {
			t.Fatalf("%+v\n%+v", fast.Model, slow.Model)
		}
	})
}

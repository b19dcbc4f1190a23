package runfile

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const page = "../../docs/formats/run.md"

// row is one key of the page.
type row struct{ key, unit, def, zero, meaning string }

// rows reads the tables of the page that describe keys.
func rows(t *testing.T) []row {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []row
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out = append(out, row{strings.Trim(cells[0], "`"), cells[1], cells[2], cells[3], cells[4]})
	}
	return out
}

// The page describes each key of the structs once, in their order, and states the
// default that the code has.
func TestPageAgreesWithTheStructs(t *testing.T) {
	var keys []string
	for _, r := range rows(t) {
		keys = append(keys, r.key)
		if r.unit == "" || r.def == "" || r.zero == "" || r.meaning == "" {
			t.Errorf("%s: an empty cell", r.key)
		}
		if want := pageDefault(r.key); r.def != want {
			t.Errorf("%s: the page says %s, the code %s", r.key, r.def, want)
		}
	}
	if !slices.Equal(keys, Keys()) {
		t.Errorf("page and structs differ:\npage    %v\nstructs %v", keys, Keys())
	}
}

func pageDefault(key string) string {
	if strings.HasPrefix(key, "model.") && key != "model.preset" && key != "model.from" {
		return "of the preset"
	}
	def := Default().text(key)
	switch key {
	case "islands[].pace":
		def = "1"
	case "islands[].threads":
		def = "0"
	}
	if def == "" {
		return "empty"
	}
	return "`" + def + "`"
}

// "refused" in the column for zero is true.
func TestPageSaysWhenZeroIsRefused(t *testing.T) {
	for _, r := range rows(t) {
		section, key, nested := strings.Cut(r.key, ".")
		if strings.Contains(r.key, "[]") || strings.Contains(r.zero, "refused ") || r.unit == "text" || r.unit == "path" || r.unit == "paths" || r.unit == "name" {
			continue
		}
		zero := "0"
		if strings.HasPrefix(r.unit, "true") {
			zero = "false"
		}
		text := r.key + ": " + zero + "\n"
		if nested {
			text = section + ":\n  " + key + ": " + zero + "\n"
		}
		parsed, err := Parse("run.yaml", []byte(text))
		if err == nil {
			_, err = parsed.Resolve()
		}
		if refused := err != nil; refused != (r.zero == "refused") {
			t.Errorf("%s: the page says %q of zero, the code %v", r.key, r.zero, err)
		}
	}
}

package fleet

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The page describes each key once, in the order of the structs.
func TestPageAgreesWithTheStructs(t *testing.T) {
	data, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	var told, keys []string
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if strings.HasPrefix(line, "| `") && len(cells) == 4 {
			told = append(told, strings.Trim(strings.TrimSpace(cells[0]), "`"))
		}
	}
	for _, key := range Keys() {
		if figure, _, ok := strings.Cut(key, "figures."); ok {
			name, _, _ := strings.Cut(strings.TrimPrefix(key, figure+"figures."), ".")
			key = figure + "figures." + name // value, assumed and source are told of once
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if !slices.Equal(told, keys) {
		t.Errorf("page and structs differ:\npage    %v\nstructs %v", told, keys)
	}
}

// The example of the page is a fleet file.
func TestPageShowsAFleet(t *testing.T) {
	data, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(data), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if f := parsed(t, example); len(f.Pools) != 2 {
		t.Errorf("%+v", f)
	}
}

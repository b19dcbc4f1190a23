package cli

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/gauge"
	"github.com/mistura-project/mistura/internal/ledger"
)

// docs/cli.md describes every key of the summary and of a measurement, every verb and every variable.
func TestPageIsComplete(t *testing.T) {
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	want := []string{noColorVariable, termVariable, gcVariable, kernel.Variable, joinVariable}
	for _, v := range newRoot(&Env{}).Commands() {
		want = append(want, "mistura "+v.Name())
	}
	s := ledger.New()
	s.Apply(ledger.RunStarted{Islands: []string{"a"}})
	var summary map[string]any
	encoded, err := json.Marshal(s.Summary())
	if err == nil {
		err = json.Unmarshal(encoded, &summary)
	}
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range summary {
		if key == "islands" {
			for inner := range value.([]any)[0].(map[string]any) {
				want = append(want, "islands[]."+inner)
			}
			continue
		}
		want = append(want, key)
	}
	var bench map[string]any
	if encoded, err = json.Marshal(gauge.Report{}); err == nil {
		err = json.Unmarshal(encoded, &bench)
	}
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, slices.Collect(maps.Keys(bench))...)
	for _, word := range want {
		if !strings.Contains(page, "`"+word) {
			t.Errorf("%s is not on the page", word)
		}
	}
}

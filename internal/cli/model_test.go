package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/model"
)

const plans = "../huggingface/testdata/plan/"

// runModelVerb runs the verb and gives what it wrote.
func runModelVerb(t *testing.T, args ...string) string {
	t.Helper()
	return wrote(t, append([]string{"model"}, args...)...)
}

func TestModelLooksAsItDid(t *testing.T) {
	for file, args := range map[string][]string{
		"model.golden":         {"ling-plus"},
		"model_explain.golden": {plans + "deepseek-v3.json", "--ep", "64", "--pp", "16", "--explain"},
	} {
		golden(t, file, runModelVerb(t, args...))
	}
}

func TestModelFitsATerminal(t *testing.T) {
	entries, err := os.ReadDir(plans)
	if err != nil {
		t.Fatal(err)
	}
	files := model.PresetNames()
	for _, e := range entries {
		files = append(files, plans+e.Name())
	}
	for _, file := range files {
		for line := range strings.Lines(runModelVerb(t, file, "--explain", "--sequence", "1000", "--dp", "4096")) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%s: %d columns: %s", file, n, line)
			}
		}
	}
}

// The counts of the cases as the verb gives them.
func TestModelInJSON(t *testing.T) {
	var got struct {
		Parameters struct{ Total, Active int64 }
		Work       struct {
			Forward float64
			Parts   []struct {
				Name    string
				Forward float64
			}
		}
		Rank struct {
			Dense   int64 `json:"dense_parameters"`
			Experts int64 `json:"expert_parameters"`
		}
		Unread []string `json:"fields_not_read"`
	}
	out := runModelVerb(t, plans+"mixtral-8x7b.json", "--json", "--ep", "2", "--tp", "2")
	if err := json.Unmarshal([]byte(out), &got); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if got.Parameters.Total != 46_702_792_704 || got.Parameters.Active != 12_879_925_248 { // F4
		t.Errorf("%+v", got.Parameters)
	}
	if got.Rank.Experts != 45_097_156_608/2 || got.Unread == nil { // F6
		t.Errorf("%+v", got)
	}
	for _, part := range got.Work.Parts {
		if part.Name == "experts" && part.Forward != 2*32*2*3*4096*14336 { // F5
			t.Errorf("%+v", part)
		}
	}
}

// A folder, a file, a preset and a run file are one model.
func TestModelOfARunFile(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/run.yaml"
	if err := os.WriteFile(file, []byte("model:\n  preset: ling-mini\ntrain:\n  sequence_tokens: 512\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := runModelVerb(t, file), runModelVerb(t, "ling-mini", "--sequence", "512"); got != want {
		t.Errorf("the run file gives\n%s\nthe preset\n%s", got, want)
	}
	data, err := os.ReadFile(plans + "gpt2.json")
	if err == nil {
		err = os.WriteFile(dir+"/config.json", data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a, b := runModelVerb(t, dir), runModelVerb(t, dir+"/config.json"); a != b || !strings.Contains(a, "124 439 808") {
		t.Errorf("folder and file differ:\n%s\n%s", a, b)
	}
}

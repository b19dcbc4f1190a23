package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever is known of a chip, its report fits a terminal, says that it predicts, and how
// good the evidence is. (That there is an answer for every chip is tested where it is made.)
func TestAssessFitsATerminal(t *testing.T) {
	some := []string{"ling-2025-a", "h100-96g-500w", "ascend-910b", "mi250x-gcd", "gb300", "ppu-810e", "hanguang-800", "mlu690", "cpu", "a100-80g-pcie", "tpu-v5e", "rtx-4090", "dcu-bw1000", "b200"}
	for i, name := range some {
		reference := []string{"h800-80g-sxm", "h100-80g-sxm", "ascend-910b"}[i%3]
		out := runChips(t, "assess", name, "--model", []string{"ling-lite", "ling-plus"}[i%2], "--reference", reference)
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
		for _, section := range []string{"Performance, predicted for ", "Scalability, predicted", "Ecosystem", "How the verdict follows: ", "published runs"} {
			if !strings.Contains(out, section) {
				t.Errorf("%s: nothing of %q", name, section)
			}
		}
		out, _, _ = strings.Cut(out, "Ecosystem") // below, texts of the catalogue speak of NaN
		if strings.Contains(out, "NaN") || strings.Contains(out, "Inf") || strings.Contains(out, "<nil>") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// The JSON names units in its keys, and leaves unknown what is.
func TestAssessJSON(t *testing.T) {
	var r struct {
		Verdict struct{ Answer, Sentence, Rule string }
		Perf    struct {
			Chip map[string]json.RawMessage
			Rate *struct{ Low, Mid, High float64 } `json:"rate_over_reference"`
			Cost *struct{ Low, Mid, High float64 } `json:"cost_over_reference"`
		} `json:"performance"`
		Scale struct {
			Rows []map[string]json.RawMessage
		} `json:"scalability"`
		Eco struct {
			Unknown []string `json:"not_known"`
		} `json:"ecosystem"`
	}
	out := runChips(t, "assess", "ascend-910b2", "--model", "ling-lite", "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, key := range []string{"step_seconds", "tokens_per_second_and_chip", "memory_bytes", "price_per_chip_hour", "cost_per_trillion_tokens", "evidence", "assumed"} {
		if r.Perf.Chip[key] == nil {
			t.Errorf("no %s in %s", key, out)
		}
	}
	if r.Verdict.Answer != "at a price" || r.Perf.Rate == nil || r.Perf.Cost != nil || string(r.Perf.Chip["price_per_chip_hour"]) != "null" {
		t.Errorf("%+v", r)
	}
	if len(r.Scale.Rows) != 11 || !slices.Contains(r.Eco.Unknown, "price") {
		t.Errorf("%d rows, not known: %v", len(r.Scale.Rows), r.Eco.Unknown)
	}
}

var console = regexp.MustCompile("(?s)```console\n\\$ mistura ([^\n]*)\n(.*?)```")

// What the pages of examples/plans show is what the verbs write.
func TestExamplePlansShowWhatIsWritten(t *testing.T) {
	t.Chdir("../..")
	for _, file := range []string{"examples/plans/ling-plus/README.md"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := console.FindAllStringSubmatch(string(data), -1)
		if len(blocks) == 0 {
			t.Errorf("%s shows nothing", file)
		}
		page := string(data)
		for _, b := range blocks {
			page = strings.Replace(page, b[0], "```console\n$ mistura "+b[1]+"\n"+wrote(t, strings.Fields(b[1])...)+"```", 1)
		}
		if *rewrite {
			if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if page != string(data) {
			t.Errorf("%s is another: go test ./internal/cli -run %s -rewrite", file, t.Name())
		}
	}
}

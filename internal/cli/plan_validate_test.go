package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const runsHeader = "id,source,model,layers,hidden,heads,ffn,vocab,seq,global_batch_seqs,chip_id,chips,tp,pp,dp,dtype,measured_metric,measured_value,unit\n"

// validated is the JSON of the verb, as somebody reads it who has the names only.
type validated struct {
	Summary struct {
		Unit          string
		Rows, Skipped int
		Median        *float64                      `json:"median_abs_error"`
		P90           *float64                      `json:"p90_abs_error"`
		ByChip        map[string]struct{ Rows int } `json:"by_chip"`
	}
	Rows []struct {
		ID                         string
		Measured, Predicted, Error *float64
		Used                       bool    `json:"used_for_calibration"`
		Skipped                    *string `json:"skipped_reason"`
		Anchor                     bool
	}
}

func runValidate(t *testing.T, args ...string) (v validated) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(wrote(t, append([]string{"plan", "validate", "--json"}, args...)...)))
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if d.More() {
		t.Error("stdout has more than one JSON document")
	}
	return v
}

func tableOfRuns(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runs.csv")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPlanValidateOfTheBuiltinRuns(t *testing.T) {
	v := runValidate(t)
	if v.Summary.Rows != 584 || len(v.Rows) != 584 || v.Summary.Skipped != 86 || v.Summary.Unit != "s" || v.Summary.Median == nil || v.Summary.P90 == nil {
		t.Errorf("%+v", v.Summary)
	}
	used := 0
	for _, r := range v.Rows {
		if r.Used {
			used++
		}
		if r.Skipped == nil && (r.Error == nil || *r.Measured <= 0 || *r.Predicted <= 0 || *r.Error < -1) || r.Skipped != nil && r.Error != nil {
			t.Errorf("%+v", r)
		}
	}
	if used != 242 {
		t.Errorf("%d rows used for calibration", used)
	}
}

func TestPlanValidateOfATable(t *testing.T) {
	file := tableOfRuns(t, runsHeader+
		"a,me,llama2-7b,32,4096,32,11008,32000,4096,64,H100-SXM5-80GB,8.0,1,1,8,BF16,step_time,11,s\n"+
		"b,me,llama2-7b,32,4096,32,11008,,4096,64,h100-80g-sxm,8,2,1,4,bf16,throughput,3000,tokens/s/chip\n"+
		"c,me,llama2-7b,32,4096,32,11008,32000,4096,64,tpu-v5p,8,1,1,8,BF16,step_time,11,s\n"+
		"d,me,llama2-7b,32,4096,32,11008,32000,4096,64,a100-40g-sxm+v100-32g-sxm,8,1,1,8,BF16,step_time,11,s\n"+
		"e,me,llama2-7b,32,4096,32,11008,32000,4096,64,h100-80g-sxm,8,,1,8,BF16,step_time,11,s\n")
	v := runValidate(t, file, "--anchor-per-source")
	var skipped []string
	for _, r := range v.Rows {
		if r.Skipped != nil {
			skipped = append(skipped, r.ID+": "+*r.Skipped)
		}
	}
	if got := strings.Join(skipped, "\n"); got != "d: chip_id \"a100-40g-sxm+v100-32g-sxm\": is not in the catalogue; add the chip, or write the name it has there\ne: tp: not stated; a run is compared when it is" {
		t.Error(got)
	}
	if v.Rows[0].Anchor != true || v.Rows[0].Error != nil || v.Rows[1].Error == nil || v.Rows[2].Anchor != true || v.Summary.ByChip["h100-80g-sxm"].Rows != 2 {
		t.Errorf("%+v", v)
	}
}

func TestPlanValidateFitsATerminal(t *testing.T) {
	out := wrote(t, "plan", "validate", "--rows")
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"584 runs", "nothing fitted to them", "by chip", "by family", "by source", "memory", "choosing among", "gpt-39.1b on 512 a100-80g-sxm", "mlm-sc21-1.7b"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not there", want)
		}
	}
}

// Bad files are refused with one line, and stdout stays empty.
func TestPlanValidateRefusesBadTables(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"nothing", "", "is empty; begin with the names of the columns"},
		{"bytes", "\x00\xff\"\x01\n\"", "is no line of comma-separated values"},
		{"another table", "chip,price\nh100,3\n", "lacks the columns id, source, model, layers"},
		{"a short row", runsHeader + "a,b\n", "has 2 cells, but there are 19 columns"},
		{"an id twice", runsHeader + strings.Repeat("a,me,,,,,,,,,,,,,,,,,\n", 2), "stands in line 2, too"},
	} {
		refusedTable(t, c.name, c.want, tableOfRuns(t, c.content))
	}
	refusedTable(t, "no file", "does not exist", filepath.Join(t.TempDir(), "none.csv"))
	refusedTable(t, "a folder", "cannot be read", t.TempDir())
	refusedTable(t, "two files", "takes one table of runs", "a.csv", "b.csv")
}

func refusedTable(t *testing.T, name, want string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(Env{Args: append([]string{"mistura", "plan", "validate"}, args...), Stdout: &out, Stderr: &errs})
	if code != 2 || out.Len() > 0 || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), want) {
		t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, &out, &errs)
	}
}

// A table without runs has no errors, and says so.
func TestPlanValidateOfNoRuns(t *testing.T) {
	v := runValidate(t, tableOfRuns(t, runsHeader))
	if v.Summary.Rows != 0 || v.Rows == nil || len(v.Rows) != 0 || v.Summary.Median != nil {
		t.Errorf("%+v", v)
	}
}

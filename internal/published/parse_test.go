package published

import (
	"errors"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

const header = "id,source,model,layers,hidden,heads,ffn,vocab,seq,global_batch_seqs,chip_id,chips,tp,pp,dp,dtype,measured_metric,measured_value,unit,of-ones-own\n"
const line = "a,somebody,llama-x,4,512,8,1408,32000,1024,16,h100-80g-sxm,8,2,2,2,BF16,step_time,1.5,s,x\n"

func TestBuiltinRunsAreReadWhole(t *testing.T) {
	runs := Builtin()
	if len(runs) != 584 {
		t.Errorf("%d runs", len(runs))
	}
	for _, r := range runs {
		for column, err := range r.Faults {
			t.Errorf("%s: %s: %v", r.ID, column, err)
		}
	}
}

func TestWhatIsNotStatedStaysUnknown(t *testing.T) {
	runs, err := Parse("mine.csv", []byte(header+line))
	if err != nil {
		t.Fatal(err)
	}
	c, err := runs[0].Case(chip.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if c.ZeRO.Known || c.Recompute != "" || c.MicroBatch.Known || c.VPP.Known || c.Run.PeakMemoryGiB.Known {
		t.Errorf("%+v", c)
	}
	if c.CP != 1 || c.Layout.TP != 2 || c.Format != "bf16" {
		t.Errorf("cp %d, %+v, %s", c.CP, c.Layout, c.Format)
	}
}

func TestBadTables(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"nothing", "", "mine.csv: is empty; begin with the names of the columns"},
		{"no columns", "id,source\n", "mine.csv:1: lacks the columns model, layers, hidden, heads, seq, global_batch_seqs, chip_id, chips, tp, pp, dp, dtype, measured_metric, measured_value, unit; add them; cells may be empty"},
		{"a column twice", strings.Replace(header, "of-ones-own", "tp", 1), `mine.csv:1 "tp": is the name of two columns; name one of them otherwise`},
		{"a short line", header + "a,b\n", `mine.csv:2: has 2 cells, but there are 20 columns; write a cell with a comma as "…"`},
		{"no id", header + line[1:], "mine.csv:2: id: is missing; give each run an id of its own"},
		{"an id twice", header + line + line, `mine.csv:3: id "a": stands in line 2, too; give each run an id of its own`},
		{"a quote", header + "a\"b,c\n", "mine.csv:2: is no line of comma-separated values"},
	} {
		_, err := Parse("mine.csv", []byte(c.file))
		var input *fault.Input
		if !errors.As(err, &input) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// A cell that cannot be read keeps its run from being compared, if it is needed, and
// the others are read.
func TestWhatKeepsARunFromBeingCompared(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{",2,2,2,BF16", ",2x,2,2,BF16", `mine.csv:2: tp "2x": is no whole number from 1; write digits only; leave it empty if it is not stated`},
		{",2,2,2,BF16", ",,2,,BF16", "tp, dp: not stated"},
		{",2,2,2,BF16", ",2,2,3,BF16", `chips "8": is not tp 2 · pp 2 · dp 3 · cp 1`},
		{",2,2,2,BF16", ",3,2,2,BF16", `chips "8": is not tp 3`},
		{"1024,16,h100-80g-sxm,8,2,2,2", "1024,16,h100-80g-sxm,64,1,1,64", `global_batch_seqs "16": leaves some of dp 64 without a sequence`},
		{"BF16", "INT4", `dtype "INT4": is no format`},
		{"h100-80g-sxm", "h1000", `chip_id "h1000": is not in the catalogue`},
		{",8,1408", ",8,", `ffn "0": is missing`},
		{",1.5,", ",NaN,", `mine.csv:2: measured_value "NaN": is no number above 0`},
		{",1.5,", ",-1,", `mine.csv:2: measured_value "-1": is no number above 0`},
		{"step_time", "chip_hours", `measured_metric "chip_hours": is not of a step`},
		{",s,", ",h,", `unit "h": is not that of step_time`},
	} {
		runs, err := Parse("mine.csv", []byte(header+strings.Replace(line, c.from, c.to, 1)))
		if err != nil {
			t.Errorf("%s: %v", c.to, err)
			continue
		}
		got, err := runs[0].Case(chip.Builtin())
		if err == nil {
			_, err = got.Step("")
		}
		var input *fault.Input
		if !errors.As(err, &input) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.to, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(header + line))
	f.Add([]byte(header + strings.Replace(line, ",8,2,2,2,", ",1073741824,1073741824,1073741824,1073741824,", 1)))
	f.Add([]byte("\ufeffid,\"so\nurce\"\n"))
	chips := chip.Builtin()
	f.Fuzz(func(t *testing.T, data []byte) {
		runs, err := Parse("fuzz.csv", data)
		var input *fault.Input
		if err != nil && !errors.As(err, &input) {
			t.Fatalf("%T: %v", err, err)
		}
		for _, r := range runs {
			c, err := r.Case(chips)
			if err == nil {
				_, err = c.Step("")
			}
			if err != nil && !errors.As(err, &input) {
				t.Fatalf("%T: %v", err, err)
			}
		}
	})
}

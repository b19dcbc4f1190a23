package validate

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

const header = "id,source,year,model,layers,hidden,heads,ffn,vocab,seq,global_batch_seqs,micro_batch,chip_id,chips,tp,pp,dp,dtype,measured_metric,measured_value,unit,peak_mem_gib,software,notes\n"

// line is a run, most of which is always the same.
func line(id, source, chip, value string) string {
	return fmt.Sprintf("%s,%s,2024,llama-x,8,1024,16,2816,32000,2048,16,1,%s,8,1,1,8,BF16,step_time,%s,s,,,\n", id, source, chip, value)
}

// sixND predicts by the operations alone, at 40 % of the peak.
func sixND(c published.Case) (plan.Step, error) {
	p := c.Decoder.Parameters()
	s := plan.Step{Seconds: 6 * float64(p.Active()) * float64(c.Batch*c.Sequence) / (0.4 * float64(c.Chips) * 989e12)}
	s.Low, s.High = s.Seconds/1.2, s.Seconds*1.2
	s.Memory[plan.Weights], s.Memory[plan.Framework] = 18*float64(p.Total()), 1<<30
	return s, nil
}

func ask(t *testing.T, csv string, anchor bool) Result {
	t.Helper()
	runs, err := published.Parse("mine.csv", []byte(csv))
	if err != nil {
		t.Fatal(err)
	}
	return of(runs, anchor, sixND)
}

func of(runs []published.Run, anchor bool, p Predictor) Result {
	chips := chip.Builtin()
	return Of(Question{Runs: runs, Chips: chips, Split: published.BuiltinSplit(chips), Predict: p, Anchor: anchor})
}

// String is a row without the whole catalogue that it was found in.
func (r Row) String() string {
	return fmt.Sprintf("%s on %s: measured %g, predicted %g (%g to %g), error %g, utilisation %g, fitted to %v, newer %v, twin %v, anchor %v, assumed %q, skipped %q",
		r.ID, r.Chip, r.Measured, r.Predicted, r.Low, r.High, r.Error, r.Use, r.Calibrates, r.Newer, r.Twin, r.Anchor, r.Assumed, r.Skipped)
}

func near(a, b Number) bool { return math.Abs(float64(a/b-1)) < 1e-9 }

func TestARowBesideItsPrediction(t *testing.T) {
	r := ask(t, header+line("a", "me", "h100-80g-sxm", "1")+line("b", "me", "h1000", "1")+strings.Replace(line("c", "me", "h100-80g-sxm", "1"), ",8,1,1,8,", ",8,,1,8,", 1), false)
	a, b, c := r.Rows[0], r.Rows[1], r.Rows[2]
	if a.Skipped != "" || a.Measured != 1 || !near(a.Error, a.Predicted-1) || a.Calibrates || !a.Scored() || a.Kind != "dense" || a.Family != "sm_90" {
		t.Errorf("%+v", a)
	}
	if b.Skipped == "" || b.Predicted.Known() || !strings.HasPrefix(string(b.Skipped), `chip_id "h1000": is not in the catalogue`) {
		t.Errorf("%+v", b)
	}
	if c.Skipped != "tp: not stated; a run is compared when it is" || c.Comparable {
		t.Errorf("%+v", c)
	}
	s := r.Summary
	if s.Rows != 3 || s.Skipped != 2 || s.Scored != 1 || s.Comparable != 2 || s.ComparableSkipped != 1 || !near(s.Median, Number(math.Abs(float64(a.Error)))) {
		t.Errorf("%+v", s)
	}
	if g := s.Cuts.Chip["h100-80g-sxm"]; g.Rows != 2 || g.Skipped != 1 || g.Scored != 1 || g.Median != s.Median {
		t.Errorf("%+v", g)
	}
}

// What the issue names stands in the document under those names, unknown is null.
func TestTheDocument(t *testing.T) {
	data, err := json.Marshal(ask(t, header+line("a", "me", "h100-80g-sxm", "1")+line("b", "me", "h1000", "1"), false))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Summary map[string]any
		Rows    []map[string]any
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"unit", "rows", "skipped", "median_abs_error", "p90_abs_error", "by_chip", "by_family", "by_source"} {
		if got.Summary[key] == nil {
			t.Errorf("no %s in the summary", key)
		}
	}
	for _, key := range []string{"id", "measured", "predicted", "error", "used_for_calibration"} {
		if got.Rows[0][key] == nil {
			t.Errorf("no %s in a row", key)
		}
	}
	if reason, ok := got.Rows[0]["skipped_reason"]; !ok || reason != nil {
		t.Errorf("skipped_reason %v", reason)
	}
	if e, ok := got.Rows[1]["error"]; !ok || e != nil || got.Rows[1]["skipped_reason"] == nil {
		t.Errorf("a skipped row: %v", got.Rows[1])
	}
}

func TestQuantiles(t *testing.T) {
	s := statsOf([]float64{-0.1, 0.3, 0.2, -0.4, 0})
	if s.Median != 0.2 || !near(s.P90, 0.36) || s.Bias != 0 {
		t.Errorf("%+v", s)
	}
	if s := statsOf([]float64{0.5}); s.Median != 0.5 || s.P90 != 0.5 {
		t.Errorf("%+v", s)
	}
	if s := statsOf(nil); s.Median.Known() || s.P90.Known() {
		t.Errorf("%+v", s)
	}
}

// The first row of each source and chip sets a factor; of a source and chip that
// calibration has, none does.
func TestAnchors(t *testing.T) {
	csv := header + line("a", "me", "h100-80g-sxm", "1") + line("b", "me", "h1000", "1") + line("c", "me", "a100-80g-sxm", "1") + line("d", "me", "h100-80g-sxm", "1.1") + line("e", "you", "h100-80g-sxm", "3")
	r := ask(t, csv, true)
	for i, anchor := range []bool{true, false, true, false, true} {
		if r.Rows[i].Anchor != anchor {
			t.Errorf("%s: anchor %v", r.Rows[i].ID, r.Rows[i].Anchor)
		}
	}
	if a, d := r.Rows[0], r.Rows[3]; a.Error.Known() || a.Scored() || !near(d.Predicted, 1) || !near(d.Error, 1/1.1-1) || !near(d.High, d.Predicted*1.2) {
		t.Errorf("%+v\n%+v", a, d)
	}
	if s := r.Summary; s.Scored != 1 || s.Anchors != 3 || !s.Anchored || s.Skipped != 1 {
		t.Errorf("%+v", s)
	}
	split := published.BuiltinSplit(chip.Builtin())
	for _, run := range published.Builtin() {
		if !split.Calibrates(run) {
			continue
		}
		run.ID = "another"
		if r := of([]published.Run{run}, true, sixND).Rows[0]; r.Anchor || r.Calibrates || !r.Twin || !r.Scored() {
			t.Errorf("%+v", r)
		}
		break
	}
}

// Rows that constants were fitted to, and newer ones, are shown apart.
func TestRowsThatDoNotCount(t *testing.T) {
	r := of(published.Builtin(), false, sixND)
	s, fitted, newer := r.Summary, 0, strings.Replace(line("n", "me", "h100-80g-sxm", "1"), ",,,\n", ",,megatron-bridge 27.01,\n", 1)
	for _, row := range r.Rows {
		if row.Calibrates {
			fitted++
		}
	}
	if s.Calibration.Scored != fitted || fitted == 0 || s.Scored+fitted != s.Rows-s.Skipped || s.Twins.Scored+s.WithoutTwins.Scored != s.Scored {
		t.Errorf("%d fitted to, %d of them summed up, %d scored of %d, %d skipped", fitted, s.Calibration.Scored, s.Scored, s.Rows, s.Skipped)
	}
	if s.Comparable-s.ComparableSkipped != s.Rows-s.Skipped || s.ComparableSkipped > 0 {
		t.Errorf("%d comparable, %d of them skipped, %d rows, %d skipped", s.Comparable, s.ComparableSkipped, s.Rows, s.Skipped)
	}
	one := ask(t, header+newer, false)
	if n := one.Summary; n.Scored != 0 || n.Newer.Scored != 1 || !one.Rows[0].Newer || one.Rows[0].Skipped != "" || n.Cuts.Chip["h100-80g-sxm"].Rows != 0 {
		t.Errorf("%+v", n)
	}
}

// Case F11: what a step makes of a chip is a share of the dense peak of the format in
// use, and above 100 % it is an error.
func TestF11UtilisationIsOfTheDensePeak(t *testing.T) {
	r := ask(t, header+line("a", "me", "h100-80g-sxm", "1"), false).Rows[0]
	again := r.of
	field, _ := chip.Peak("bf16")
	if peak, ok := again.Chip.Of(field).Exact(); !ok || peak != 989 {
		t.Fatalf("H100 has %v in bf16", peak)
	}
	full := Number(float64(r.Use)) // of one second
	slower := ask(t, header+line("a", "me", "h100-80g-sxm", fmt.Sprint(float64(full)/1.04)), false).Rows[0]
	if !near(slower.Use, 1.04) || !strings.Contains(string(slower.Skipped), "is 104 % of the dense bf16 peak of h100-80g-sxm: an error") || slower.Scored() {
		t.Errorf("%+v", slower)
	}
	if just := ask(t, header+line("a", "me", "h100-80g-sxm", fmt.Sprint(float64(full)/0.999)), false).Rows[0]; just.Skipped != "" {
		t.Errorf("%+v", just)
	}
	again.Format = "fp8"
	if fp8 := Utilisation(again, 1); !near(fp8, r.Use*989/1979) {
		t.Errorf("fp8 %v, bf16 %v", fp8, r.Use)
	}
}

// Case F10: 1e12 operations in one second are 1 TFLOPS, a 989th of an H100.
func TestF10UtilisationOfATeraflop(t *testing.T) {
	r := ask(t, header+line("a", "me", "h100-80g-sxm", "1"), false).Rows[0]
	c := r.of
	c.Chips = 1
	work := float64(Utilisation(c, 1)) * 989e12 // operations of the step
	if got := Utilisation(c, work/1e12); !near(got, 1.0/989) {
		t.Errorf("%g", got)
	}
}

func TestNoBuiltinRunIsImpossible(t *testing.T) {
	for _, r := range of(published.Builtin(), false, sixND).Rows {
		if r.Use > 0.85 {
			t.Errorf("%s: %.2f of the peak", r.ID, r.Use)
		}
	}
}

// A measurement far beyond what a chip can do is refused in few words.
func TestImpossibleIsSaidInFewWords(t *testing.T) {
	r := Row{Format: "bf16", Chip: "h100-80g-sxm", Use: 4.5e296}
	r.run.Measured.Value = 1e300
	if got, want := impossible(r).Error(), `measured_value "1e+300": is 4.5e+298 % of the dense bf16 peak of h100-80g-sxm: an error; check value, unit and chip_id`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

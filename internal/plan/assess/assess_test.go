package assess

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// ask is a question about a chip of a catalogue.
func ask(t *testing.T, chips chip.Catalogue, name, reference, preset string) Question {
	t.Helper()
	c, err := model.Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	q := Question{Catalogue: chips, Table: chip.BuiltinTable(), Constants: plan.BuiltinConstants(), Runs: published.Builtin(),
		Model: anatomy.Of(c), Sequence: 4096, Batch: 4096, Format: "bf16", Chips: 512}
	if q.Chip, err = chips.Find(name); err != nil {
		t.Fatal(err)
	}
	if q.Reference, err = chips.Find(reference); err != nil {
		t.Fatal(err)
	}
	return q
}

// over lays rows of a catalogue over the built-in one.
func over(t *testing.T, rows string) chip.Catalogue {
	t.Helper()
	mine, err := chip.Parse("mine.csv", []byte("mistura chips,1,2026-11-29\nchip,field,value,unit,grade,source,date,note\n"+rows))
	if err != nil {
		t.Fatal(err)
	}
	return mine.Over(chip.Builtin())
}

// Every chip of the catalogue gets an answer that can be printed: a sentence for a
// line, and JSON, which has no place for what is not a number.
func TestEveryChipGetsAnAnswer(t *testing.T) {
	chips := chip.Builtin()
	for _, name := range chips.Names() {
		r := ask(t, chips, name, "h800-80g-sxm", "ling-lite").Answer()
		if n := utf8.RuneCountInString(r.Verdict.Sentence); n == 0 || n > columns || strings.Contains(r.Verdict.Sentence, "NaN") {
			t.Errorf("%s: %d columns: %s", name, n, r.Verdict.Sentence)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.Performance.Chip.Missing == "" && r.Performance.Chip.Step == nil || r.Performance.Chip.Missing != "" && r.Verdict.Answer != Unknown && r.Verdict.Answer != Unfit {
			t.Errorf("%s: %+v, %s", name, r.Performance.Chip, r.Verdict.Answer)
		}
		if len(r.Scalability.Rows) != 11 || r.Scalability.Rows[0].Chips != 8 || r.Scalability.Rows[10].Chips != 8192 {
			t.Errorf("%s: %d numbers of chips", name, len(r.Scalability.Rows))
		}
	}
}

// Efficiency is that of the best number of chips, and of none above it.
func TestEfficiencyIsOfTheBest(t *testing.T) {
	best := 0.0
	for _, row := range ask(t, chip.Builtin(), "h800-80g-sxm", "h800-80g-sxm", "ling-plus").Answer().Scalability.Rows {
		if (row.Efficiency != nil) != (row.Missing == "") {
			t.Errorf("%+v", row)
		}
		if row.Efficiency != nil {
			best = max(best, *row.Efficiency)
		}
	}
	if best != 1 {
		t.Errorf("the best is %v", best)
	}
}

// A chip does just the work of itself, and costs the same.
func TestAgainstItself(t *testing.T) {
	r := ask(t, chip.Builtin(), "ling-2025-d", "ling-2025-d", "ling-lite").Answer()
	p := r.Performance
	if p.Rate == nil || p.Rate.Mid != 1 || p.Cost == nil || p.Cost.Mid != 1 || p.Worth == nil || math.Abs(p.Worth.Mid-27.5) > 1e-9 {
		t.Errorf("%+v", p)
	}
	if p.Chip.Cost.Mid != p.Reference.Cost.Mid || r.Verdict.Answer == Cheaper && p.Cost.High >= 1 {
		t.Errorf("%+v: %s", p.Chip.Cost, r.Verdict.Sentence)
	}
	for i, row := range r.Scalability.Rows {
		if other := r.Scalability.Reference[i]; row.Missing != other.Missing || row.Missing == "" && *row.Efficiency != *other.Efficiency {
			t.Errorf("%+v, %+v", row, other)
		}
	}
}

// Sold for the break-even price a chip costs what the reference costs, and the verdict
// turns there.
func TestBreakEvenPrice(t *testing.T) {
	worth := ask(t, chip.Builtin(), "ascend-910b2", "ling-2025-d", "ling-lite").Answer()
	if worth.Verdict.Answer != Priced || worth.Performance.Currency != "CNY" {
		t.Fatalf("%+v", worth.Verdict)
	}
	price := worth.Performance.Worth.Mid
	for _, c := range []struct {
		factor float64
		want   Answer
	}{{0.2, Cheaper}, {5, Dearer}} {
		rows := "ascend-910b2,price," + chip.Number(math.Round(price*c.factor*1e4)/1e4).String() + ",CNY/h,A,me,2026,\n"
		r := ask(t, over(t, rows), "ascend-910b2", "ling-2025-d", "ling-lite").Answer()
		if r.Verdict.Answer != c.want || math.Abs(r.Performance.Cost.Mid-c.factor) > 0.01*c.factor {
			t.Errorf("at %v of the price: %s, cost %+v", c.factor, r.Verdict.Sentence, r.Performance.Cost)
		}
	}
}

// S6: figures that nobody knows are assumed from like chips, which is said, and make
// the range wider than those that are stated.
func TestWhatIsAssumedIsSaidAndWidens(t *testing.T) {
	stated := over(t, "ppu-810e,bandwidth,2000,GB/s,A,me,2026,\nppu-810e,nic,200,Gbit/s,A,me,2026,\n")
	a := ask(t, chip.Builtin(), "ppu-810e", "h800-80g-sxm", "ling-lite").Answer()
	b := ask(t, stated, "ppu-810e", "h800-80g-sxm", "ling-lite").Answer()
	said := strings.Join(a.Performance.Chip.Assumed, "; ")
	for _, field := range []string{"bandwidth ", "nic "} {
		if !strings.Contains(said, field) || strings.Contains(strings.Join(b.Performance.Chip.Assumed, "; "), field) {
			t.Errorf("%s of %s", field, said)
		}
		if !slices.Contains(a.Ecosystem.Unknown, strings.TrimSpace(field)) {
			t.Errorf("%s is not told as unknown: %v", field, a.Ecosystem.Unknown)
		}
	}
	wide, narrow := *a.Performance.Chip.Step, *b.Performance.Chip.Step
	if wide.High/wide.Low <= narrow.High/narrow.Low || !(wide.Low <= wide.Mid && wide.Mid <= wide.High) {
		t.Errorf("assumed %+v, stated %+v", wide, narrow)
	}
}

// What the user measured goes before what was fitted; of chips without fitted constants
// also what others measured does, and both are said.
func TestMeasuredProducts(t *testing.T) {
	table, err := chip.ParseTable("mine.csv", []byte("mistura efficiency,1,2026-11-29\nchip,operation,format,shape,group,median,low,high,unit,peak,samples,software,grade,source,date,note\n"+
		"h800-80g-sxm,product,bf16,training,,30,25,40,%,989,9,,A,me,2026,\nppu-810e,product,bf16,training,,60,50,70,%,123,9,,A,me,2026,\n"))
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string, own bool, table chip.Table) (Span, string) {
		q := ask(t, chip.Builtin(), name, "h800-80g-sxm", "ling-lite")
		q.Table, q.Own = table, own
		s := q.Answer().Performance.Chip
		return *s.Step, strings.Join(s.Assumed, "; ")
	}
	fitted, _ := step("h800-80g-sxm", false, table)
	mine, said := step("h800-80g-sxm", true, table)
	if mine.Mid <= fitted.Mid || mine.High/mine.Low <= fitted.High/fitted.Low || !strings.Contains(said, "your table") {
		t.Errorf("fitted %+v, measured %+v: %s", fitted, mine, said)
	}
	without, _ := step("ppu-810e", false, chip.BuiltinTable())
	with, said := step("ppu-810e", false, table)
	if with == without || !strings.Contains(said, "what was measured") {
		t.Errorf("%+v, %+v: %s", without, with, said)
	}
}

// Without a peak or memory nothing is predicted, and the reason is the figure.
func TestUnknownPeak(t *testing.T) {
	r := ask(t, over(t, "mi300x,bf16,unknown,,,,,\n"), "mi300x", "h800-80g-sxm", "ling-lite").Answer()
	if r.Verdict.Answer != Unknown || r.Performance.Chip.Missing != "bf16 is not known" || r.Performance.Rate != nil {
		t.Errorf("%+v", r.Verdict)
	}
	for name, want := range map[string]string{"ascend-910a": "bf16 is a format that it has not, but fp16", "hanguang-800": "bf16 is a format that it has not", "mlu690": "bf16 is not known", "cpu": "memory is not known"} {
		if r := ask(t, chip.Builtin(), name, "h800-80g-sxm", "ling-lite").Answer(); !strings.HasPrefix(r.Performance.Chip.Missing, want) {
			t.Errorf("%s: %s, want %s", name, r.Performance.Chip.Missing, want)
		}
	}
	q := ask(t, chip.Builtin(), "ascend-910b2", "h800-80g-sxm", "ling-lite")
	q.Format = "fp8"
	if r := q.Answer(); r.Verdict.Answer != Unknown || r.Performance.Chip.Missing != "fp8 is a format that it has not" {
		t.Errorf("%+v", r.Verdict)
	}
}

// The report's trillion tokens of Ling-Plus imply the utilisation of device D, and
// DeepSeek's bills those of H800.
func TestPublishedBillsImplyUtilisation(t *testing.T) {
	for name, want := range map[string]map[string]float64{
		"ling-2025-d":  {"ling-plus-deviceD": 0.2102},
		"h800-80g-sxm": {"deepseek-v3-pretrain": 0.3464, "deepseek-v2-pretrain": 0.2048, "deepseek-67b-pretrain": 0.3756},
	} {
		got := map[string]float64{}
		for _, run := range ask(t, chip.Builtin(), name, "h800-80g-sxm", "ling-plus").Answer().Performance.Runs {
			got[run.ID] = run.MFU
			if same := run.ID == "ling-plus-deviceD"; same != (run.Gap != nil) {
				t.Errorf("%s: gap %v", run.ID, run.Gap)
			}
		}
		for id, mfu := range want {
			if math.Abs(got[id]-mfu) > 5e-4 {
				t.Errorf("%s: %.4f, want %.4f", id, got[id], mfu)
			}
		}
	}
}

// The rule of the verdict, number by number.
func TestVerdictFollowsTheRule(t *testing.T) {
	q := ask(t, chip.Builtin(), "ling-2025-a", "ling-2025-d", "ling-lite")
	half := 0.04
	proven := Evidence{Runs: 7, Tests: 2, Median: &half, P90: &half}
	side := func(name string) Side { return Side{Chip: name, Chips: 512, Memory: 1, Evidence: proven} }
	span := func(low, mid, high float64) *Span { return &Span{low, mid, high} }
	for _, c := range []struct {
		change func(*Performance)
		want   Answer
		says   string
	}{
		{func(p *Performance) { p.Cost = span(0.6, 0.7, 0.9) }, Cheaper, "Yes: tokens cost 10–40 % less than on ling-2025-d; no PyTorch route is known."},
		{func(p *Performance) { p.Cost = span(1.1, 1.2, 1.4) }, Dearer, "No: tokens cost 10–40 % more than on ling-2025-d"},
		{func(p *Performance) { p.Cost = span(0.9, 1, 1.1) }, Undecided, "Undecided: tokens cost 1 (0.9–1.1) times those on ling-2025-d"},
		{func(p *Performance) { p.Worth, p.Currency = span(8, 9, 10), "CNY" }, Priced, "Yes below 9 (8–10) CNY an hour: 2 (1.7–2.5) do the work of one ling-2025-d"},
		{func(p *Performance) {}, Unknown, "Without prices: 2 (1.7–2.5) do the work of one ling-2025-d."},
		{func(p *Performance) { p.Chip.Missing = "lacks 9 GB a chip" }, Unfit, "No: ling-2025-a cannot hold ling-lite on 512 chips; it lacks 9 GB a chip."},
		{func(p *Performance) { p.Chip.Missing, p.Chip.Memory = "bf16 is not known", 0 }, Unknown, "Unknown for ling-2025-a: bf16 is not known."},
		{func(p *Performance) { p.Rate, p.Reference.Missing = nil, "lacks 9 GB a chip" }, Unknown, "Unknown for ling-2025-a: ling-2025-d lacks 9 GB a chip."},
		{func(p *Performance) { p.Cost, p.Chip.Evidence.Runs = span(0.6, 0.7, 0.9), 4 }, Cheaper, "Yes: tokens cost 10–40 % less than on ling-2025-d; unproven"},
	} {
		p := Performance{Chip: side("ling-2025-a"), Reference: side("ling-2025-d"), Rate: span(0.4, 0.5, 0.6)}
		c.change(&p)
		v := q.verdict(Report{Performance: p})
		if v.Answer != c.want || !strings.HasPrefix(v.Sentence, c.says) || utf8.RuneCountInString(v.Sentence) > columns {
			t.Errorf("got %s %q, want %s %q", v.Answer, v.Sentence, c.want, c.says)
		}
	}
}

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
	"github.com/mistura-project/mistura/internal/runfile"
)

// fits demands that nothing is wider than a terminal.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestPlanWithoutFlagsIsAnExample(t *testing.T) {
	text := wrote(t, "plan")
	fits(t, text)
	for _, want := range []string{"An example: ", "ling-plus, 290.6 B parameters", "in 90.0 days", "Predicted, none of it measured", "The cheapest", " CNY (", "What limits it:", "\nThe pools\n", "ascend-910b2"} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
}

// Equal questions have equal answers, whatever finishes first.
func TestPlanIsTheSameEachTime(t *testing.T) {
	for _, args := range [][]string{{"plan", "--explain"}, {"plan", "--json"}} {
		first := wrote(t, args...)
		for range 3 {
			if again := wrote(t, args...); again != first {
				t.Fatalf("%v differs:\n%s\n%s", args, first, again)
			}
		}
	}
}

func TestPlanExplainsEachTerm(t *testing.T) {
	text := wrote(t, "plan", "--explain")
	fits(t, text)
	for _, want := range []string{"A step of an island of ", "Memory of its fullest rank", "The whole run, ", "What it costs, predicted", "\n      = "} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q", want)
		}
	}
}

var snakeCase = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

// Every key is snake_case, at every depth.
func TestPlanInJSON(t *testing.T) {
	out := wrote(t, "plan", "--json", "--reference", "testdata/plan/reference.yaml")
	var doc any
	if err := json.Unmarshal([]byte(out), &doc); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				if !snakeCase.MatchString(key) {
					t.Errorf("key %q", key)
				}
				walk(value)
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		}
	}
	walk(doc)
	top := doc.(map[string]any)
	if top["predicted"] != true || top["example"] != true || top["run_file"] != nil {
		t.Errorf("%v", top)
	}
	plans := top["answer"].(map[string]any)["plans"].([]any)
	if len(plans) != 10 {
		t.Errorf("%d plans", len(plans))
	}
	if r := top["reference"].(map[string]any); !(r["break_even_mfu_ratio"].(float64) > 0) {
		t.Errorf("%v", r)
	}
}

// madeUpChip has eight to a host.
func madeUpChip() chip.Chip {
	c := chip.Chip{Name: "some-chip"}
	for field, x := range map[chip.Field]float64{chip.MemoryGB: 64, chip.BandwidthGBs: 1000, chip.LinkGBs: 100, chip.NICGbits: 100, chip.NodeChips: 8, chip.LinkGroup: 8} {
		c = c.With(field, chip.Figure{Value: chip.Number(x)})
	}
	return c
}

// madeUp is an answer with something of everything, so that what it looks like does
// not hang on what is predicted.
func madeUp() *planned {
	span := func(x float64) search.Span { return search.Span{Low: 0.9 * x, Mid: x, High: 1.2 * x} }
	island := search.Island{
		Pool: "big", Chip: "some-chip", Count: 2, Chips: 256, Batch: 384, Step: span(12.5), MFU: 0.31, Bytes: 50e9, Memory: 64e9, HostBytes: 4e12,
		Layout: plan.Layout{Layout: anatomy.Layout{TP: 4, PP: 8, EP: 16, ETP: 1}, DP: 8, CP: 1, VPP: 2, MicroBatch: 1, ZeRO: 1, Recompute: anatomy.Selective},
		Terms:  []plan.Told{{Name: "products", Value: 10, Formula: "2 × 3"}}, Parts: []plan.Told{{Name: "weights", Value: 1e9, Formula: "n × 2"}},
	}
	small := island
	small.Pool, small.Chip, small.Count, small.Chips, small.Layout.TP, small.Layout.VPP = "small", "other-chip", 1, 64, 1, 1
	best := search.Plan{
		Islands: []search.Island{island, small}, Batch: 1024, Steps: 238419, Period: 100e6, Fragments: 24, Chips: 576, Seconds: span(30 * day), Cost: span(4.6e6), MFU: 0.3, TokenRate: 385e3,
		Run:   []plan.Line{{Name: "training", Low: 29 * day, Mid: 29 * day, High: 29 * day, Formula: "steps × step"}, {Name: "interruptions", High: 7200, Formula: "…", Unknown: "MTBF of small"}},
		Money: []search.Line{{Name: "big", Hourly: 5e3, Amount: 4.5e6, Formula: "512 chips"}, {Name: "syncers", Formula: "2 hosts", Unknown: "no price"}}, Syncers: search.Syncers{Count: 2, Bytes: 7e12},
	}
	lone := best
	lone.Islands, lone.Seconds, lone.Cost = []search.Island{island}, span(41*day), span(5e6)
	lone.Islands[0].Count = 1
	decoder := anatomy.Of(model.Config{Name: "made-up", Vocab: 1000, Dim: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16, DenseLayers: 2, DenseFFN: 256})
	slow := lone
	slow.Chips, slow.Seconds = 64, span(200*day)
	some := fleet.Fleet{File: "fleet.yaml", Currency: "CNY", Pools: []fleet.Pool{{Name: "big", Chip: madeUpChip()}, {Name: "small", Chip: madeUpChip()}}}
	return &planned{
		model: asked{decoder: decoder}, question: search.Question{Task: plan.Task{Model: decoder, Sequence: 4096, Batch: 1024, Format: "bf16"}, Tokens: 1e12, Fleet: some, Objective: search.Time, Deadline: 60 * day, Budget: 6e6},
		constants: "2026-11-29", taken: []string{"A step has 1024 sequences."},
		answer: search.Answer{
			Plans: []search.Plan{best, lone}, Front: []search.Plan{best, lone}, Currency: "CNY",
			Limits:      []string{"the deadline of 60 days: without it the run costs 4 M CNY", "the link between big and small"},
			Sensitivity: []search.Change{{What: "links between islands −5 %", Kept: true, Cost: 0.013, Seconds: 0.02}, {What: "memory of big −10 %", Cost: 1.5, Seconds: -0.1}, {What: "without big", Missing: "no plan is left"}},
			Pools: []search.Judged{{Pool: "big", Chip: "some-chip", Chips: 512, Used: 512, Alone: &lone, Assumed: []string{"bf16 365, the middle of 354..376"}}, {Pool: "small", Chip: "other-chip", Chips: 64, Used: 64, Alone: &slow, Misses: "too late"},
				{Pool: "tiny", Chip: "third-chip", Chips: 8, Rejected: "too small by 3.0 GB a chip"}},
			Assumed: []string{"experts have even loads"}, Counts: search.Counts{Layouts: 123456, Steps: 1234, Plans: 56},
		},
	}
}

func TestPlanLooksAsItDid(t *testing.T) {
	p := madeUp()
	p.catalogue.Date = "2026-11-29"
	text := p.text(true)
	fits(t, text)
	golden(t, "plan.golden", text)
}

// Whatever pools and chips are called, and whatever is wrong, lines stay within a terminal.
func TestPlanFitsATerminalWithLongNames(t *testing.T) {
	p, long := madeUp(), strings.Repeat("long-", 8)
	for i := range p.answer.Plans {
		for j := range p.answer.Plans[i].Islands {
			p.answer.Plans[i].Islands[j].Pool = long
			p.question.Fleet.Pools[j].Name = long
		}
		p.answer.Plans[i].Money[0].Name = "traffic of " + long
		p.answer.Plans[i].Seconds.Mid *= 1e5
	}
	for i := range p.answer.Pools {
		p.answer.Pools[i].Pool, p.answer.Pools[i].Chip, p.answer.Pools[i].Chips = long, long, 10_000_000
	}
	for i := range p.answer.Sensitivity {
		p.answer.Sensitivity[i].What = "twice the chips of " + long + ", in islands no larger"
	}
	p.answer.Sensitivity[2].Missing = strings.Repeat("why not ", 20)
	fits(t, p.text(true))
}

// What predictions of a chip are worth is that of its own published runs, and nothing is
// claimed of a chip with few.
func TestPlanShowsHowPredictionsHaveHeld(t *testing.T) {
	e, ok := plan.EvidenceOf("a100-80g-sxm")
	if !ok || e.Rows < plan.Proven {
		t.Fatalf("%+v", e)
	}
	want := fmt.Sprintf(`a100 +a100-80g-sxm +64 +\d+ +%d +%.1f %%, %.1f %% +used`, e.Rows, 100*e.Median, 100*e.P90)
	text := wrote(t, "plan", "--model", "ling-lite", "--tokens", "1T", "--fleet", "testdata/plan/a100.yaml")
	if !regexp.MustCompile(want).MatchString(text) || !regexp.MustCompile(`ppu +ppu-810e .* unproven `).MatchString(text) {
		t.Errorf("want %s:\n%s", want, text)
	}
	for rows, want := range map[int]bool{0: true, 4: true, 5: false} {
		if got := weighed(plan.Evidence{Rows: rows, Median: 0.1, P90: 0.2}, true).text(); (got == "unproven") != want {
			t.Errorf("%d rows: %s", rows, got)
		}
	}
}

func TestDeadlines(t *testing.T) {
	start := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]float64{"30d": 30 * day, "1.5w": 10.5 * day, "12h": day / 2, "2027-03-01": 90 * day} {
		if got, err := parseDeadline(text, start); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "30", "d", "-3d", "0d", "1e3d", "March", "2026-11-30", "2026-12-01", "2027-02-30", "99999999d"} {
		if got, err := parseDeadline(text, start); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
	if _, err := parseDeadline("2027-03-01", time.Time{}); err == nil || !strings.Contains(err.Error(), "add --start") {
		t.Errorf("%v", err)
	}
}

func TestBudgets(t *testing.T) {
	f := fleet.Fleet{File: "fleet.yaml", Currency: "USD", Rates: []fleet.Rate{{From: "CNY", To: "USD", Rate: 0.14}}}
	for text, want := range map[string]float64{"5M": 5e6, "6.35M USD": 6.35e6, "100": 100, "2kUSD": 2000, "5M CNY": 7e5} {
		if got, err := parseBudget(text, f); err != nil || got < want*(1-1e-12) || got > want*(1+1e-12) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-5M", "0", "5 M", "5M yuan", "1e6", "5M EUR"} {
		if got, err := parseBudget(text, f); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
	if _, err := parseBudget("5M", fleet.Fleet{File: "fleet.yaml"}); err == nil || !strings.Contains(err.Error(), "has no price") {
		t.Errorf("%v", err)
	}
}

// What --out writes is a run file, for trainers of others and for our own engine.
func TestPlanWritesARunFile(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"rent": {"--out", dir + "/rent.yaml"},
		"cpu":  {"--model", "ling-tiny", "--tokens", "20k", "--fleet", "testdata/plan/cpu.yaml", "--batch", "8", "--sequence", "128", "--out", dir + "/cpu.yaml"},
	} {
		if text := wrote(t, append([]string{"plan"}, args...)...); !strings.Contains(text, "Written: "+dir) {
			t.Errorf("%s: does not say where", name)
		}
		data, err := os.ReadFile(dir + "/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		r, err := runfile.Parse(name, data)
		if err == nil {
			r, err = r.Resolve()
		}
		if err != nil || !strings.HasPrefix(string(data), "# Written by mistura plan; all numbers are predicted: ") {
			t.Fatalf("%s: %v\n%s", name, err, data)
		}
		switch name {
		case "rent":
			if r.Tokens != 1e12 || !r.Data.Own || !r.Model.Foreign() || !r.Islands[0].Seed || r.Islands[0].Engine != runfile.External {
				t.Errorf("%s", data)
			}
		case "cpu":
			if r.Tokens != 20e3 || r.Model.Preset != "ling-tiny" || len(r.Islands) != 2 || r.StepTokens() != 4*128 || r.Exchange.PeriodTokens != 4000 || r.Islands[1].Engine != runfile.Native {
				t.Errorf("%s", data)
			}
		}
	}
}

func TestRunNames(t *testing.T) {
	for text, want := range map[string]string{"ling-plus": "ling-plus", "My Model/7B": "My-Model-7B", "": "plan", ".x": "x", "模型": "plan"} {
		if got := runName(text); got != want || !runfile.IsName(got) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// What the README and the example say to type works, from the top of the repository.
func TestPlanCommandsOfThePages(t *testing.T) {
	t.Chdir("../..")
	command := regexp.MustCompile(`(?m)^(?:bin/|#? *)(mistura plan --model .*)$`)
	for _, page := range []string{"README.md", "docs/planner.md", "examples/plans/rent/fleet.yaml"} {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := command.FindAllStringSubmatch(string(data), -1)
		if len(found) == 0 {
			t.Errorf("%s shows no plan", page)
		}
		for _, m := range found {
			if text := wrote(t, strings.Fields(m[1])[1:]...); !strings.Contains(text, "The cheapest: predicted ") {
				t.Errorf("%s: %s: %s", page, m[1], text)
			}
		}
	}
}

// S6: what is not known is null, never 0.
func TestPlanInJSONKnowsWhatIsNotKnown(t *testing.T) {
	p := madeUp()
	p.answer.Plans[0].Cost = search.Span{Low: math.NaN(), Mid: math.NaN(), High: math.Inf(1)}
	var out bytes.Buffer
	if err := p.printJSON(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"cost":{"low":null,"mid":null,"high":null}`, `{"name":"syncers","per_hour":null,"amount":null,"formula":"2 hosts","unknown":"no price"}`,
		`{"what":"without big","kept":false,"cost_change":null,"time_change":null,"missing":"no plan is left"}`, `"median_abs_error":null`, `"start":null`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}

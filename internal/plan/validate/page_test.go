package validate

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/fit"
	"github.com/mistura-project/mistura/internal/published"
)

var rewrite = flag.Bool("rewrite", false, "write the evidence and the tables of docs/planner.md anew")

const (
	page     = "../../../docs/planner.md"
	begin    = "<!-- tables of errors: go test ./internal/plan/validate -run TestOutOfDate -rewrite -->\n"
	end      = "<!-- end of the errors -->\n"
	evidence = "../evidence.csv"
)

// builtin is the result of the built-in runs, without and with anchors.
var builtin = sync.OnceValue(func() [2]Result {
	k := plan.BuiltinConstants()
	predict := Predictor(fit.Predictor(k))
	return [2]Result{of(published.Builtin(), false, predict), of(published.Builtin(), true, predict)}
})

// The evidence that plans show, and the page, are those of the constants that the
// program has.
func TestOutOfDateEvidence(t *testing.T) {
	upToDate(t, evidence, string(plan.MarshalEvidence(EvidenceOf(builtin()[0].Rows))), "", "")
}

func TestOutOfDatePage(t *testing.T) {
	upToDate(t, page, tables(builtin()[0], builtin()[1]), begin, end)
}

// upToDate compares what a file has between two marks, or as a whole.
func upToDate(t *testing.T, file, now, from, to string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, old, after := "", string(data), ""
	if from != "" {
		var ok, ok2 bool
		before, old, ok = strings.Cut(old, from)
		old, after, ok2 = strings.Cut(old, to)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the tables", file)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(before+from+now+to+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != now {
		t.Errorf("%s is out of date: go test ./internal/plan/validate -run TestOutOfDate -rewrite", file)
	}
}

// tables writes what the page says of the result, without and with anchors.
func tables(r, anchored Result) string {
	var b strings.Builder
	s, a := r.Summary, anchored.Summary
	fmt.Fprintf(&b, "\n%d of the %d built-in runs are comparable and %d of those are predicted. Errors are |predicted / measured - 1| of step times.\n", s.Comparable, s.Rows, s.Comparable-s.ComparableSkipped)
	head := func(name string) {
		fmt.Fprintf(&b, "\n| %s | rows | median | 90th percentile | bias | in the range |\n| --- | --- | --- | --- | --- | --- |\n", name)
	}
	row := func(name string, g Group) {
		if g.Scored > 0 {
			fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", name, g.Scored, share(g.Median), share(g.P90), withSign(g.Bias), share(g.Coverage))
		}
	}
	head("runs")
	row("**test runs**", s.Group)
	row("of which with a twin in calibration", s.Twins.Group)
	row("of which without", s.WithoutTwins.Group)
	row("newer software", s.Newer.Group)
	row("test runs, the first of each new source and chip as anchor", a.Group)
	row("calibration runs", s.Calibration.Group)
	for _, cut := range []struct {
		name   string
		groups map[string]Group
	}{{"test runs by chip", s.Chip}, {"by family", s.Family}, {"by kind", s.Kind}, {"by format", s.Format}, {"by software", s.Software}, {"by source", s.Source}, {"calibration runs by chip", s.Calibration.Chip}} {
		head(cut.name)
		for _, name := range sorted(cut.groups) {
			row(name, cut.groups[name])
		}
	}
	b.WriteString("\n| choosing among measured layouts | layouts | regret | pairs that differ by more than 3 % | in the right order |\n| --- | --- | --- | --- | --- |\n")
	for _, w := range s.Sweeps {
		fmt.Fprintf(&b, "| %s on %d %s | %d | %s | %d | %s |\n", w.Model, w.Chips, w.Chip, w.Layouts, share(Number(w.Regret)), w.Pairs, share(w.RightOrder))
	}
	b.WriteString("\n| memory, by the bytes that sources count | rows | median | 90th percentile | bias |\n| --- | --- | --- | --- | --- |\n")
	for _, kind := range slices.Sorted(maps.Keys(s.Memory.Bytes)) {
		g := s.Memory.Bytes[kind]
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", kind, g.Rows, share(g.Median), share(g.P90), withSign(g.Bias))
	}
	b.WriteString("\n")
	return b.String()
}

func share(n Number) string {
	if !n.Known() {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n))
}

func withSign(n Number) string {
	if !n.Known() {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100*float64(n))
}

package fit

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

var rewrite = flag.Bool("rewrite", false, "fit the constants, and write them and the tables of docs/planner.md anew (minutes)")

const (
	page  = "../../../docs/planner.md"
	begin = "<!-- tables of the fit: go test ./internal/plan/fit -run TestPage -rewrite -->\n"
	end   = "<!-- end of the fit -->\n"
)

// The page has the constants that the program has, and their errors in sample.
// Errors of folds and of sources left out take minutes and are written with the fit.
func TestPage(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/planner.md has no place for the tables of the fit")
	}
	if *rewrite {
		write(t, before, after)
		return
	}
	k := plan.BuiltinConstants()
	if !strings.Contains(old, constantsTable(k)) {
		t.Error("the constants of the page are not those of constants.csv: -rewrite")
	}
	in := Sum(Score(Samples(chip.Builtin(), published.Calibration), k))
	if row := fmt.Sprintf("| all | %d | %s |", in.Rows, shown(in)); !strings.Contains(old, row) {
		t.Errorf("the page lacks %q: -rewrite", row)
	}
}

func write(t *testing.T, before, after string) {
	chips := chip.Builtin()
	k := Constants(chips, plan.BuiltinConstants())
	if err := os.WriteFile("../constants.csv", k.Marshal(), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := plan.ParseConstants("constants.csv", k.Marshal()) // as rounded
	if err != nil {
		t.Fatal(err)
	}
	samples := Samples(chips, published.Calibration)
	three := [][]Scored{Score(samples, k), LeftOut(samples, chips, k, Fold), LeftOut(samples, chips, k, Source)}
	text := constantsTable(k) + "\n" + errorsTable(three)
	if err := os.WriteFile(page, []byte(before+begin+text+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func constantsTable(k plan.Constants) string {
	var b strings.Builder
	fitted := 0
	for _, c := range k.All() {
		if c.Rows > 0 && !strings.HasPrefix(c.Name, "range.") {
			fitted++
		}
	}
	fmt.Fprintf(&b, "%d constants are fitted; the number behind each is the calibration runs that move with it.\n\n| constant | value | runs |\n| --- | --- | --- |\n", fitted)
	for _, c := range k.All() {
		rows := "taken for granted"
		if c.Rows > 0 {
			rows = fmt.Sprint(c.Rows)
		}
		fmt.Fprintf(&b, "| %s | %.4g | %s |\n", c.Name, c.Value, rows)
	}
	return b.String()
}

func errorsTable(three [][]Scored) string {
	var b strings.Builder
	b.WriteString("Errors of step time, median and 90th percentile, of calibration runs: in sample; with a fifth of the runs left out; with the whole source left out.\n\n" +
		"| runs | number | in sample | 5-fold | source left out |\n| --- | --- | --- | --- | --- |\n")
	row := func(name string, in func(Sample) bool) {
		var cells []string
		n := 0
		for _, all := range three {
			var some []Scored
			for _, s := range all {
				if in(s.Sample) {
					some = append(some, s)
				}
			}
			n = len(some)
			cells = append(cells, shown(Sum(some)))
		}
		fmt.Fprintf(&b, "| %s | %d | %s |\n", name, n, strings.Join(cells, " | "))
	}
	row("all", func(Sample) bool { return true })
	row("dense", func(s Sample) bool { return !s.Case.Run.MoE() })
	row("MoE", func(s Sample) bool { return s.Case.Run.MoE() })
	var samples []Sample
	for _, s := range three[0] {
		samples = append(samples, s.Sample)
	}
	for _, by := range []func(Sample) string{func(s Sample) string { return s.Chip.Chip }, Source} {
		for _, g := range groups(samples, by) {
			row(g, func(s Sample) bool { return by(s) == g })
		}
	}
	return b.String()
}

func shown(e Errors) string { return fmt.Sprintf("%.1f %%, %.1f %%", 100*e.Median, 100*e.P90) }

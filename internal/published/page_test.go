package published

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/planner.md anew")

const (
	page  = "../../docs/planner.md"
	begin = "<!-- tables of published runs: go test ./internal/published -run TestPage -rewrite -->\n"
	end   = "<!-- end of the tables -->\n"
)

// tally counts comparable runs by a name, by model kind and side.
type tally struct{ dense, moe [2]int }

func (t *tally) add(moe, fitted bool) {
	counts := &t.dense
	if moe {
		counts = &t.moe
	}
	side := 1
	if fitted {
		side = 0
	}
	counts[side]++
}

func (t tally) sum() int { return t.dense[0] + t.dense[1] + t.moe[0] + t.moe[1] }

// tables writes what the page says of the split.
func tables(t *testing.T) string {
	s := BuiltinSplit(chip.Builtin())
	cases := comparable(t, s)
	fitted := map[string]bool{}
	byChip, bySource, byArch, whole := map[string]*tally{}, map[string]*tally{}, map[string]*tally{}, &tally{}
	count := func(m map[string]*tally, name string, c Case) {
		if m[name] == nil {
			m[name] = &tally{}
		}
		m[name].add(c.Run.MoE(), s.Calibrates(c.Run))
	}
	for _, c := range cases {
		count(byChip, c.Chip.Name, c)
		count(byArch, c.Chip.Of(chip.Arch).Text(), c)
		count(bySource, c.Run.Source, c)
		whole.add(c.Run.MoE(), s.Calibrates(c.Run))
		if s.Calibrates(c.Run) {
			fitted[c.Twin()] = true
		}
	}
	twins := 0
	for _, c := range cases {
		if !s.Calibrates(c.Run) && fitted[c.Twin()] {
			twins++
		}
	}
	var b strings.Builder
	test := whole.dense[1] + whole.moe[1]
	fmt.Fprintf(&b, "\n%d runs, %d comparable: %d calibration, %d test, of which %d have a twin in calibration (same model, chips, layout, batch and format, other software).\n", len(Builtin()), len(cases), whole.sum()-test, test, twins)
	row := func(name string, t tally) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", name, t.sum(), t.dense[0], t.dense[1], t.moe[0], t.moe[1])
	}
	head := func(name string) {
		fmt.Fprintf(&b, "\n| %s | comparable | dense, calibration | dense, test | MoE, calibration | MoE, test |\n| --- | --- | --- | --- | --- | --- |\n", name)
	}
	for _, of := range []struct {
		name string
		m    map[string]*tally
	}{{"family", byArch}, {"chip", byChip}} {
		head(of.name)
		for _, name := range sorted(of.m) {
			row(name, *of.m[name])
		}
		row("all", *whole)
	}
	b.WriteString("\n| source | side | comparable | dense | MoE | why |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, source := range s.Sources {
		n := tally{}
		if bySource[source.Name] != nil {
			n = *bySource[source.Name]
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s |\n", source.Name, source.Side, n.sum(), n.dense[0]+n.dense[1], n.moe[0]+n.moe[1], source.Reason)
	}
	b.WriteString("\n")
	return b.String()
}

func sorted(m map[string]*tally) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestPageShowsTheSplit(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", page)
	}
	now := tables(t)
	if *rewrite {
		if err := os.WriteFile(page, []byte(before+begin+now+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != now {
		t.Errorf("the tables of %s are out of date: go test ./internal/published -run TestPage -rewrite", page)
	}
}

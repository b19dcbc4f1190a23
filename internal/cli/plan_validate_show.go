package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/plan/validate"
)

// showValidation writes the sums, and the rows if they are asked for, at most 100
// columns wide.
func showValidation(out io.Writer, name string, r validate.Result, rows bool) error {
	s := r.Summary
	var b strings.Builder
	text := fmt.Sprintf(`%d runs (%s), %d comparable, of which %d skipped. Times of steps: error = predicted / measured - 1; bias is the median error; "in range" is the share of `+
		`measured times within the printed range, which is to hold 80 %%.`, s.Rows, name, s.Comparable, s.ComparableSkipped)
	if s.Anchored {
		text += fmt.Sprintf(" %d runs, the first of each source and chip that nothing was fitted to, set a factor for the others and are not scored.", s.Anchors)
	}
	fmt.Fprintf(&b, "%s\n\n", strings.Join(wrapped(text, columns), "\n"))
	expected := s.Group
	expected.Rows = s.Scored + s.Skipped // those that were fitted to have a line of their own
	line(&b, "runs", groupHead()...)
	of(&b, "nothing fitted to them", expected)
	of(&b, "  with a twin that was fitted to", s.Twins.Group)
	of(&b, "  without one", s.WithoutTwins.Group)
	of(&b, "newer software", s.Newer.Group)
	of(&b, "fitted to", s.Calibration.Group)
	for _, cut := range []struct {
		name   string
		groups map[string]validate.Group
	}{{"by chip", s.Chip}, {"by family", s.Family}, {"by kind", s.Kind}, {"by format", s.Format}, {"by software", s.Software}, {"by source", s.Source}} {
		section(&b, cut.name, groupHead()...)
		for _, key := range slices.Sorted(maps.Keys(cut.groups)) {
			of(&b, key, cut.groups[key])
		}
	}
	memories(&b, s.Memory)
	sweeps(&b, s.Sweeps)
	if rows {
		each(&b, r.Rows)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

const nameColumns = 46

// short keeps both ends of a name.
func short(name string) string {
	const tail = 24
	letters := []rune(name)
	if len(letters) <= nameColumns {
		return name
	}
	return string(letters[:nameColumns-tail-1]) + "…" + string(letters[len(letters)-tail:])
}

func groupHead() []string {
	return []string{"rows", "skipped", "median", "p90", "bias", "in range"}
}

// line writes a row of a table: a name and what is said of it.
func line(b *strings.Builder, name string, cells ...string) {
	row := fmt.Sprintf("%-*s", nameColumns, name)
	for _, c := range cells {
		row += fmt.Sprintf("%9s", c)
	}
	b.WriteString(strings.TrimRight(row, " ") + "\n")
}

// section begins a table after an empty line.
func section(b *strings.Builder, name string, cells ...string) {
	b.WriteByte('\n')
	line(b, name, cells...)
}

func of(b *strings.Builder, name string, g validate.Group) {
	line(b, short(name), fmt.Sprint(g.Rows), fmt.Sprint(g.Skipped), percent(g.Median), percent(g.P90), signed(g.Bias), percent(g.Coverage))
}

func percent(n validate.Number) string {
	if !n.Known() {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n))
}

func signed(n validate.Number) string {
	if !n.Known() {
		return "-"
	}
	return fmt.Sprintf("%+.1f %%", 100*float64(n))
}

func memories(b *strings.Builder, m validate.Memories) {
	section(b, "memory, by the bytes that sources count", "rows", "", "median", "p90", "bias")
	for _, kind := range slices.Sorted(maps.Keys(m.Bytes)) {
		g := m.Bytes[kind]
		line(b, string(kind), fmt.Sprint(g.Rows), "", percent(g.Median), percent(g.P90), signed(g.Bias))
	}
}

func sweeps(b *strings.Builder, all []validate.Sweep) {
	section(b, "choosing among the layouts that were measured", "layouts", "pairs", "in order", "regret")
	for _, s := range all {
		line(b, short(fmt.Sprintf("%s on %d %s", s.Model, s.Chips, s.Chip)), fmt.Sprint(s.Layouts), fmt.Sprint(s.Pairs), percent(s.RightOrder), percent(validate.Number(s.Regret)))
	}
}

// each writes a line for each row, with its marks.
func each(b *strings.Builder, rows []validate.Row) {
	section(b, "f fitted to, n newer, t has a twin, a anchor", "measured", "predicted", "error")
	for _, r := range rows {
		line(b, short(r.ID), seconds(r.Measured), seconds(r.Predicted), signed(r.Error), marks(r))
		if r.Skipped != "" {
			fmt.Fprintf(b, "  %s\n", strings.Join(wrapped(string(r.Skipped), columns-2), "\n  "))
		}
	}
}

func seconds(n validate.Number) string {
	if !n.Known() {
		return "-"
	}
	return fmt.Sprintf("%.4g s", float64(n))
}

func marks(r validate.Row) string {
	all := ""
	for _, m := range []struct {
		is   bool
		mark string
	}{{r.Calibrates, "f"}, {r.Newer, "n"}, {r.Twin, "t"}, {r.Anchor, "a"}} {
		if m.is {
			all += m.mark
		}
	}
	return all
}

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/chip"
)

func newChipsShow(env *Env) *cobra.Command {
	f, measured := &chipFlags{}, ""
	cmd := &cobra.Command{
		Use:   "show CHIP",
		Short: "Show everything that is known of a chip",
		Long: `Show everything that is known of a chip, each figure with its grade (A first-hand to
U doubtful), source and date, then what was measured on it. What nobody knows is "?".`,
		Example: `  mistura chips show ascend-910b2
  mistura chips show b200 --efficiency measured.csv
  mistura chips show h800-80g-sxm --csv > mine.csv`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if all, err := f.catalogue(); err == nil && len(args) == 0 {
				return all.Names(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("command line", strings.Join(args, " "), "needs the name of one chip", "mistura chips lists them; see "+cmd.CommandPath()+" --help")
			}
			table, err := tableOf(measured)
			if err != nil {
				return err
			}
			return runChipsShow(env, f, table, args[0])
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&measured, "efficiency", "", "take what was measured from the table `FILE`, not from the built-in one")
	return cmd
}

// tableOf reads a table of what was measured, or gives the built-in one.
func tableOf(file string) (chip.Table, error) {
	if file == "" {
		return chip.BuiltinTable(), nil
	}
	data, err := readFlag("--efficiency", file)
	if err != nil {
		return chip.Table{}, err
	}
	return chip.ParseTable(file, data)
}

func runChipsShow(env *Env, f *chipFlags, table chip.Table, name string) error {
	all, err := f.catalogue()
	if err != nil {
		return err
	}
	c, err := all.Find(name)
	if err != nil && len(table.OfChip(name)) > 0 {
		c, err = chip.Entry(name, nil), nil // nobody has described it, and somebody has measured it
	}
	switch {
	case err != nil:
		return err
	case f.asJSON:
		return printJSON(env.Stdout, struct {
			Catalogue      chip.Catalogue     `json:"catalogue"`
			EfficiencyDate string             `json:"efficiency_date"`
			Efficiency     []chip.Measurement `json:"efficiency"`
		}{all.Only(c), table.Date, append([]chip.Measurement{}, table.OfChip(name)...)})
	case f.asCSV:
		_, err = env.Stdout.Write(all.Only(c).Marshal())
		return err
	}
	return showChip(env.Stdout, c, table)
}

// showChip writes a line for each figure, field, value, grade, source, and then for
// each measurement.
func showChip(out io.Writer, c chip.Chip, table chip.Table) error {
	var b strings.Builder
	b.WriteString(c.Name + "\n")
	for _, info := range chip.Fields() {
		figures := c.All(info.Field)
		if len(figures) == 0 && info.Field != chip.Quirk {
			figures = []chip.Figure{{}}
		}
		for _, f := range figures {
			showLine(&b, string(info.Field), saidOf(info.Field, f), f)
		}
	}
	b.WriteString("\nmeasured, table of " + table.Date + "\n")
	rows := table.OfChip(c.Name)
	for _, m := range rows {
		showLine(&b, string(m.Operation), measuredAs(m), chip.Figure{Grade: m.Grade, Source: m.Source, Date: m.Date, Note: joined(m.Software, m.Note)})
	}
	if len(rows) == 0 {
		b.WriteString(unknown + "\n")
	}
	legend := "Peaks are dense; links and networks are counted in one direction. Grades: " + gradeLegend() + ". " + unknown + " is unknown."
	b.WriteString("\n" + strings.Join(wrapped(legend, columns), "\n") + "\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// saidOf is the value of a figure with its unit.
func saidOf(field chip.Field, f chip.Figure) string {
	switch {
	case !f.Known():
		return unknown
	case f.Unit == string(field): // "dies 2" says it
		return spoken(f.Value)
	}
	return strings.TrimSpace(spoken(f.Value) + " " + f.Unit)
}

// measuredAs says what was measured of which shape, and as a share of the peak.
func measuredAs(m chip.Measurement) string {
	what := joined(m.Format, m.Shape)
	if m.Group > 0 {
		what = fmt.Sprintf("%d chips, %s", m.Group, m.Shape)
	}
	unit := " " + m.Unit
	if m.Unit == "%" {
		unit = m.Unit
	}
	var rates []string
	if x, ok := m.Median.Exact(); ok {
		rates = append(rates, fmt.Sprintf("%v%s", x, unit))
	}
	if low, ok := m.Low.Exact(); ok {
		high, _ := m.High.Exact()
		rates = append(rates, fmt.Sprintf("%v–%v%s", low, high, unit))
	}
	text := strings.ReplaceAll(what, "; ", " ") + ": " + strings.Join(rates, ", ")
	if share, ok := m.Share(); ok && m.Unit != "%" {
		text += fmt.Sprintf(" (%.0f%%)", 100*share)
	}
	return text
}

// joined are the words that are there.
func joined(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), "; ")
}

// Columns of what is shown of a chip, of 100.
const (
	valueColumn  = 16
	gradeColumn  = 46
	sourceColumn = 49
	columns      = 100
)

// showLine writes a field, what is said of it, and who says so.
func showLine(b *strings.Builder, field, said string, f chip.Figure) {
	left := wrapped(said, gradeColumn-valueColumn-2)
	right := wrapped(joined(f.Source, f.Date, f.Note), columns-sourceColumn)
	grade := string(f.Grade)
	for i := range max(len(left), len(right)) {
		line := fmt.Sprintf("%s%s%s%s", pad(field, valueColumn), pad(nth(left, i), gradeColumn-valueColumn), pad(grade, sourceColumn-gradeColumn), nth(right, i))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		field, grade = "", ""
	}
}

func nth(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// wrapped breaks a text between words into lines of that width; a longer word has a
// line of its own.
func wrapped(s string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(s) {
		last := lines[len(lines)-1]
		switch {
		case last == "":
			lines[len(lines)-1] = word
		case utf8.RuneCountInString(last)+1+utf8.RuneCountInString(word) <= width:
			lines[len(lines)-1] = last + " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

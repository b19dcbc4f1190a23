package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/chip"
)

func newChipsShow(env *Env) *cobra.Command {
	f := &chipFlags{}
	cmd := &cobra.Command{
		Use:   "show CHIP",
		Short: "Show everything that is known of a chip",
		Long: `Show everything that is known of a chip, each figure with its grade (A first-hand to
U doubtful), source and date. What nobody knows is "?".`,
		Example: `  mistura chips show ascend-910b2
  mistura chips show h800-80g-sxm --csv > mine.csv`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if all, err := f.catalogue(); err == nil && len(args) == 0 {
				return all.Names(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("command line", strings.Join(args, " "), "needs the name of one chip", "see "+cmd.CommandPath()+" --help; mistura chips lists them")
			}
			return runChipsShow(env, f, args[0])
		},
	}
	f.add(cmd)
	return cmd
}

func runChipsShow(env *Env, f *chipFlags, name string) error {
	all, err := f.catalogue()
	if err != nil {
		return err
	}
	c, err := all.Find(name)
	switch {
	case err != nil:
		return err
	case f.asJSON:
		return printJSON(env.Stdout, c)
	case f.asCSV:
		_, err = env.Stdout.Write(all.Only(c).Marshal())
		return err
	}
	return showChip(env.Stdout, c)
}

// showChip writes a line for each figure: field, value, grade, source.
func showChip(out io.Writer, c chip.Chip) error {
	var b strings.Builder
	b.WriteString(c.Name + "\n")
	for _, info := range chip.Fields() {
		figures := c.All(info.Field)
		if len(figures) == 0 && info.Field != chip.Quirk {
			figures = []chip.Figure{{}}
		}
		for _, f := range figures {
			showFigure(&b, string(info.Field), f)
		}
	}
	legend := "Peaks are dense; links and networks are counted in one direction. Grades: " + gradeLegend() + ". " + unknown + " is unknown."
	b.WriteString("\n" + strings.Join(wrapped(legend, columns), "\n") + "\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// Columns of what is shown of a chip, of 100.
const (
	valueColumn  = 14
	gradeColumn  = 44
	sourceColumn = 47
	columns      = 100
)

func showFigure(b *strings.Builder, field string, f chip.Figure) {
	said := unknown
	if f.Known() {
		said = spoken(f.Value)
		if f.Unit != field { // "dies 2" says it
			said = strings.TrimSpace(said + " " + f.Unit)
		}
	}
	var from []string
	for _, s := range []string{f.Source, f.Date, f.Note} {
		if s != "" {
			from = append(from, s)
		}
	}
	left := wrapped(said, gradeColumn-valueColumn-2)
	right := wrapped(strings.Join(from, "; "), columns-sourceColumn)
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

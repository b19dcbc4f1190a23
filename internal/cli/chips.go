package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/chip"
)

// chipFlags are what chips and chips show have in common.
type chipFlags struct {
	file   string
	asJSON bool
	asCSV  bool
}

func (f *chipFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "catalogue", "", "lay the rows of `FILE` over the built-in catalogue")
	flags.BoolVar(&f.asJSON, "json", false, "write one JSON object on one line")
	flags.BoolVar(&f.asCSV, "csv", false, "write the rows of a catalogue file, to begin one's own with")
}

// catalogue is the built-in one, with the user's over it.
func (f *chipFlags) catalogue() (chip.Catalogue, error) {
	switch {
	case f.asJSON && f.asCSV:
		return chip.Catalogue{}, usage("--csv", "", "cannot go with --json", "give one of them")
	case f.file == "":
		return chip.Builtin(), nil
	}
	data, err := readFlag("--catalogue", f.file)
	if err != nil {
		return chip.Catalogue{}, err
	}
	mine, err := chip.Parse(f.file, data)
	return mine.Over(chip.Builtin()), err
}

// readFlag reads the file that a flag names.
func readFlag(flag, file string) ([]byte, error) {
	data, err := readWritten(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage(flag, file, "does not exist", "give a file that does")
	case err != nil:
		return nil, usage(flag, file, "cannot be read: "+reason(err), "give a readable file")
	}
	return data, nil
}

// mostWritten is the bytes of a file that somebody wrote: another may have no end.
const mostWritten = 64 << 20

// readWritten reads no more of a file than somebody writes.
func readWritten(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, mostWritten+1))
	if err == nil && len(data) > mostWritten {
		err = fmt.Errorf("more than %d MiB", mostWritten>>20)
	}
	return data, err
}

func newChips(env *Env) *cobra.Command {
	f := &chipFlags{}
	cmd := &cobra.Command{
		Use:   "chips",
		Short: "List the chips of the catalogue",
		Long: `List the chips of the catalogue: what is known of each, how well, and from whom.
Peaks are dense; links are counted in one direction. What nobody knows is "?".
A file of your own adds chips, or replaces figures, prices say.`,
		Example: `  mistura chips
  mistura chips show ascend-910b2
  mistura chips --catalogue mine.csv --json`,
		Args: noVerb,
		RunE: func(*cobra.Command, []string) error {
			all, err := f.catalogue()
			switch {
			case err != nil:
				return err
			case f.asJSON:
				return printJSON(env.Stdout, all)
			case f.asCSV:
				_, err = env.Stdout.Write(all.Marshal())
				return err
			}
			return listChips(env.Stdout, all)
		},
	}
	f.add(cmd)
	cmd.AddCommand(newChipsShow(env), newChipsMeasure(env), newChipsAssess(env))
	return cmd
}

// listChips writes a line for each chip, at most 100 columns wide.
func listChips(out io.Writer, all chip.Catalogue) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "chip\tvendor\tmemory\tbf16\tbandwidth\tlinks\tprice\tgrade")
	fmt.Fprintln(w, "\t\tGB\tTFLOPS\tGB/s\tGB/s\tper h\tA–U")
	for _, c := range all.Chips() {
		price := askedFor(c)
		row := []chip.Figure{c.Of(chip.MemoryGB), c.Of(chip.BF16), c.Of(chip.BandwidthGBs), c.Of(chip.LinkGBs), price}
		fmt.Fprintf(w, "%s\t%.13s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, cmp.Or(c.Of(chip.Vendor).Text(), unknown),
			terse(row[0].Value), terse(row[1].Value), terse(row[2].Value), linked(c), priced(price), cmp.Or(string(chip.Worst(row...)), unknown))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	legend := fmt.Sprintf(`Catalogue of %s. Peaks are dense. Links: one direction, kind, chips joined. Prices: one currency. `+
		`Grade of a row's weakest figure: %s. %s is unknown. mistura chips show CHIP has every figure with its source.`, all.Date, gradeLegend(), unknown)
	_, err := fmt.Fprintf(out, "\n%s\n", strings.Join(wrapped(legend, columns), "\n"))
	return err
}

// unknown is what a reader sees of it.
const unknown = "?"

func gradeLegend() string {
	var words []string
	for _, g := range chip.Grades() {
		words = append(words, string(g)+" "+g.Means())
	}
	return strings.Join(words, ", ")
}

// terse is a value in few characters.
func terse(v chip.Value) string {
	if !v.Known() {
		return unknown
	}
	if all := v.Variants(); len(all) > 2 {
		return fmt.Sprintf("%v–%v", all[0], all[len(all)-1])
	}
	return strings.ReplaceAll(spoken(v), " or ", "/")
}

// spoken is a value for a reader.
func spoken(v chip.Value) string {
	if _, _, ok := v.Range(); ok {
		return strings.ReplaceAll(v.String(), "..", "–")
	}
	return v.String()
}

// linked says how fast a chip's links are, of which kind, and how many chips they join.
func linked(c chip.Chip) string {
	if c.Of(chip.LinkKind).None() {
		return "none"
	}
	rate, kind, group := c.Of(chip.LinkGBs), c.Of(chip.LinkKind), c.Of(chip.LinkGroup)
	if !rate.Known() && !kind.Known() && !group.Known() {
		return unknown
	}
	const room = 17
	text := []rune(terse(rate.Value) + " " + terse(kind.Value) + " " + terse(group.Value))
	if len(text) > room {
		text = append(text[:room-1], '…')
	}
	return string(text)
}

// askedFor is the range of the prices in dollars, or in the first other currency.
func askedFor(c chip.Chip) chip.Figure {
	currencies := append([]string{"USD"}, c.Currencies()...)
	for _, currency := range currencies {
		if some := c.Prices(currency); len(some) > 0 {
			return chip.Figure{Value: chip.Hull(some...), Unit: currency, Grade: chip.Worst(some...)}
		}
	}
	return chip.Figure{}
}

func priced(f chip.Figure) string {
	if !f.Known() {
		return unknown
	}
	return terse(f.Value) + " " + f.Unit
}

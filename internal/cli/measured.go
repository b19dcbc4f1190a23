package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/gauge"
)

// measured is a measurement of a chip as it is shown and written.
type measured struct {
	tried   gauge.Tried
	chip    chip.Chip
	table   chip.Table
	date    string
	seconds float64
}

// name finds the chip in the catalogue, by what the user calls it or as it calls itself;
// one that is not there is new.
func (m *measured) name(given string, all chip.Catalogue) error {
	device := m.tried.Device
	if c, ok := all.Called(device.Name); given == "" && ok {
		m.chip = c
		return nil
	}
	name := cmp.Or(given, chip.NameFor(device.Name), chip.NameFor("this "+device.Kind))
	if problem, next := chip.CheckName(name); problem != "" {
		return usage("--chip", name, problem, next)
	}
	m.chip = chip.Entry(name, nil)
	if c, err := all.Find(name); err == nil {
		m.chip = c
	}
	return nil
}

// sayer is who says what was measured.
func sayer() string { return "mistura chips measure, version " + buildOf().Version }

func (m *measured) origin() chip.Origin {
	return chip.Origin{Chip: m.chip, Software: cell(m.tried.Device.Software), Source: cell(sayer()), Date: m.date}
}

// cell keeps of what a device says what may stand in a file.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	return strings.TrimSpace(string([]rune(s)[:min(300, len([]rune(s)))]))
}

// entry is what the device says of itself, where the catalogue does not know better. Its
// peaks it does not say: they stay unknown, with what was reached.
func (m *measured) entry() chip.Chip {
	d := m.tried.Device
	figures := map[chip.Field]chip.Figure{}
	say := func(f chip.Field, v chip.Value, unit, note string) {
		if !m.chip.Of(f).Known() {
			figures[f] = chip.Figure{Value: v, Unit: unit, Grade: chip.FirstHand, Source: cell(sayer()), Date: m.date, Note: note}
		}
	}
	for f, text := range map[chip.Field]string{chip.Title: d.Name, chip.Torch: d.Kind, chip.Arch: d.Arch, chip.Collectives: d.Collectives, chip.Visible: d.Visible} {
		if text = cell(text); text != "" {
			say(f, chip.Words(text), "", "")
		}
	}
	if d.MemoryBytes > 0 {
		say(chip.MemoryGB, chip.Number(max(0.1, math.Round(float64(d.MemoryBytes)/1e8)/10)), "GB", "what programs may take of it")
	}
	if d.Devices > 0 {
		say(chip.NodeChips, chip.Number(float64(d.Devices)), "chips", "as many as a program sees on this host")
	}
	for f, note := range m.reached() {
		if !m.chip.Of(f).Known() {
			figures[f] = chip.Figure{Note: note}
		}
	}
	return chip.Entry(m.chip.Name, figures)
}

// reached says of each peak, which is not known, what was measured.
func (m *measured) reached() map[chip.Field]string {
	most := map[chip.Field]chip.Measurement{}
	for _, row := range m.table.Rows {
		field, ok := chip.Peak(row.Format)
		if row.Operation == chip.MemoryCopy {
			field, ok = chip.BandwidthGBs, true
		}
		x, _ := row.Rate()
		if y, _ := most[field].Rate(); ok && x > y {
			most[field] = row
		}
	}
	notes := map[chip.Field]string{}
	for field, row := range most {
		x, _ := row.Rate()
		notes[field] = fmt.Sprintf("measured: up to %v %s; the peak is not known", x, row.Unit)
	}
	return notes
}

// show writes for a reader what was measured, at most 100 columns wide.
func (m *measured) show(out io.Writer, f *measureFlags, self string) error {
	var b strings.Builder
	b.WriteString(strings.Join(wrapped(fmt.Sprintf("%s, measured on %s by %s", m.chip.Name, m.date, cell(m.tried.Device.Software)), columns), "\n") + "\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measured\tformat\tshape\tmedian\tlowest\thighest\tunit\tof the peak\tsamples")
	for _, row := range m.table.Rows {
		share := unknown
		if x, ok := row.Share(); ok {
			share = fmt.Sprintf("%.0f %%", 100*x)
		}
		shape := row.Shape
		if row.Group > 0 {
			shape = fmt.Sprintf("%s, %d chips", shape, row.Group)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%v\n", row.Operation, row.Format, shape, number(row.Median), number(row.Low), number(row.High), row.Unit, share, row.Samples)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	b.WriteString("\n")
	for _, line := range append(m.leftOut(), m.closing(f, self)...) {
		b.WriteString(strings.Join(wrapped(line, columns), "\n") + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// number is a rate, or nothing where there is none.
func number(v chip.Value) string {
	if x, ok := v.Exact(); ok {
		return fmt.Sprint(x)
	}
	return ""
}

// leftOut says what was not measured, and why, once for all shapes.
func (m *measured) leftOut() (lines []string) {
	shapes := map[string]int{}
	for _, l := range m.tried.Left {
		k := l.Key
		k.Shape = ""
		shapes[keyInWords(k)+"\x00"+l.Why]++
	}
	for _, key := range slices.Sorted(maps.Keys(shapes)) {
		what, why, _ := strings.Cut(key, "\x00")
		lines = append(lines, cell(fmt.Sprintf("not measured: %s (%d): %s", what, shapes[key], why)))
	}
	return lines
}

// closing says what the columns mean, and what to do with the files.
func (m *measured) closing(f *measureFlags, self string) (lines []string) {
	lines = append(lines, fmt.Sprintf("All of this was measured, in %.0f s; nothing is predicted. Samples are repeats, or shapes where the shape is %s or %s.",
		m.seconds, chip.BestShape, chip.TrainingShape))
	if above := m.above(); len(above) > 0 {
		lines = append(lines, fmt.Sprintf("More than the peak that the catalogue says of %s: %s. It is another chip (--chip NAME), or the peak is of another format; they are written without it.",
			m.chip.Name, strings.Join(above, ", ")))
	}
	if n, of := m.unsteady(); 4*n > of {
		lines = append(lines, fmt.Sprintf("Of %d of %d shapes repeats differ more than twofold: something else runs on this machine. Measure again when it does not.", n, of))
	}
	if f.out == "" && f.catalogueOut == "" {
		return append(lines, "Nothing was written: --out FILE keeps it as a table.")
	}
	next := []string{self, "chips", "show", m.chip.Name}
	if f.catalogueOut != "" {
		next = append(next, "--catalogue", shellQuote(f.catalogueOut))
	}
	if f.out != "" {
		next = append(next, "--efficiency", shellQuote(f.out))
	}
	return append(lines, "Written. To see it: "+strings.Join(next, " "))
}

// above are the shapes of which a repeat was faster than the chip can be (case F11).
func (m *measured) above() (names []string) {
	for _, row := range m.table.Rows {
		if row.Shape != chip.BestShape && row.Shape != chip.TrainingShape && m.origin().Above(row) {
			names = append(names, keyInWords(row.Key))
		}
	}
	return names
}

// unsteady is of how many shapes the fastest repeat was more than twice as fast as the slowest.
func (m *measured) unsteady() (n, of int) {
	for _, t := range m.tried.Trials {
		of++
		if slices.Max(t.Seconds) > 2*slices.Min(t.Seconds) {
			n++
		}
	}
	return n, of
}

// leftJSON is what was not measured.
type leftJSON struct {
	Operation chip.Operation `json:"operation"`
	Format    string         `json:"format"`
	Shape     string         `json:"shape"`
	Group     int            `json:"group"`
	Why       string         `json:"why"`
}

func (m *measured) printJSON(out io.Writer, f *measureFlags) error {
	left := []leftJSON{}
	unsteady, _ := m.unsteady()
	for _, l := range m.tried.Left {
		left = append(left, leftJSON{l.Key.Operation, l.Key.Format, l.Key.Shape, l.Key.Group, cell(l.Why)})
	}
	return printJSON(out, struct {
		Chip         string             `json:"chip"`
		Device       string             `json:"device"`
		Software     string             `json:"software"`
		Date         string             `json:"date"`
		Seconds      float64            `json:"seconds"`
		Out          string             `json:"out"`
		CatalogueOut string             `json:"catalogue_out"`
		Measured     []chip.Measurement `json:"measured"`
		NotMeasured  []leftJSON         `json:"not_measured"`
		Unsteady     int                `json:"unsteady"` // shapes
	}{m.chip.Name, cell(m.tried.Device.Name), cell(m.tried.Device.Software), m.date, m.seconds, f.out, f.catalogueOut, m.table.Rows, left, unsteady})
}

package chip

import (
	_ "embed" // the built-in files
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// Catalogue is a list of chips, in the order of its file.
type Catalogue struct {
	Date  string // of the file
	chips []Chip
}

//go:embed catalogue.csv
var builtin []byte

// CatalogueFormat is the format of catalogue files that is written, and the newest
// that is read. History: 1 first version; 2 the field frameworks.
const CatalogueFormat = 2

func catalogueKind() kind {
	return kind{"mistura chips", CatalogueFormat, []string{"chip", "field", "value", "unit", "grade", "source", "date", "note"}}
}

// Builtin is the catalogue that the program carries.
func Builtin() Catalogue {
	c, err := Parse("catalogue.csv", builtin)
	if err != nil {
		panic("chip: " + err.Error()) // a test reads it
	}
	return c
}

// Parse reads a catalogue. The name stands in errors, all of which are *fault.Input.
func Parse(name string, data []byte) (Catalogue, error) {
	date, rows, err := catalogueKind().rows(name, data)
	if err != nil {
		return Catalogue{}, err
	}
	c := Catalogue{Date: date}
	at := map[string]int{}
	for _, r := range rows {
		field, f, err := r.figure()
		if err != nil {
			return Catalogue{}, err
		}
		id := r.cells["chip"]
		i, ok := at[id]
		if !ok {
			i, at[id] = len(c.chips), len(c.chips)
			c.chips = append(c.chips, Chip{Name: id, figures: map[Field][]Figure{}})
		}
		if err := c.chips[i].add(r, field, f); err != nil {
			return Catalogue{}, err
		}
	}
	return c, nil
}

// add takes in a figure, if the chip has none of its field or may have several.
func (c Chip) add(r row, field FieldInfo, f Figure) error {
	before := c.figures[field.Field]
	if len(before) > 0 && !field.Many {
		return r.fault("field", "is said twice of "+c.Name, "keep one row; where sources disagree write a range such as 354..376")
	}
	if slices.ContainsFunc(before, func(x Figure) bool {
		return !x.Known() || !f.Known() || x.Value.Equal(f.Value) && x.Unit == f.Unit && x.Source == f.Source
	}) {
		return r.fault("value", "does not go with the other rows of "+string(field.Field)+" of "+c.Name, "keep one of the same source, and none beside unknown")
	}
	c.figures[field.Field] = append(before, f)
	return nil
}

// figure reads a row.
func (r row) figure() (FieldInfo, Figure, error) {
	if !chipName.MatchString(r.cells["chip"]) {
		return FieldInfo{}, Figure{}, r.fault("chip", "is no name of a chip", "write lower-case letters, digits and hyphens, such as h800-80g-sxm")
	}
	field, ok := info(Field(r.cells["field"]))
	if !ok {
		return FieldInfo{}, Figure{}, r.fault("field", "no such field", didYouMean(r.cells["field"], fieldNames()))
	}
	v, err := field.parse(r)
	if err != nil {
		return FieldInfo{}, Figure{}, err
	}
	unit := r.cells["unit"]
	if numbers := len(v.numbers) > 0; numbers && !field.takes(unit) || !numbers && unit != "" {
		return FieldInfo{}, Figure{}, r.fault("unit", "is not the unit of "+string(field.Field)+" "+v.String(), "write "+field.unitFor(v))
	}
	if !v.Known() {
		if r.cells["grade"]+r.cells["source"]+r.cells["date"] != "" {
			return FieldInfo{}, Figure{}, r.fault("value", "has grade, source or date", "leave them empty, and say in the note why it is not known")
		}
		return field, Figure{Note: r.cells["note"]}, nil
	}
	f, err := r.evidence()
	f.Value, f.Unit = v, unit
	return field, f, err
}

// parse reads the value of a row.
func (i FieldInfo) parse(r row) (Value, error) {
	s := r.cells["value"]
	switch {
	case s == unknownWord:
		return Value{}, nil
	case s == noneWord && i.Field != Price:
		return Value{none: true}, nil
	case s == "":
		return Value{}, r.fault("value", "is missing", "write "+unknownWord+", or leave the row out")
	case i.Words != nil && !slices.Contains(i.Words, s):
		return Value{}, r.fault("value", "is no "+string(i.Field), "write "+strings.Join(i.Words, ", ")+", "+noneWord+" or "+unknownWord)
	case i.text():
		return Value{text: s}, nil
	}
	v, err := parseNumbers(s)
	if err != nil {
		return Value{}, r.fault("value", err.Error(), "write "+string(i.Field)+" as a number such as 376, a range 354..376, variants 8 or 72, "+noneWord+" or "+unknownWord)
	}
	if i.Whole && slices.ContainsFunc(v.numbers, func(x float64) bool { return x != float64(int64(x)) }) {
		return Value{}, r.fault("value", "is not whole", "write "+string(i.Field)+" in whole "+i.Unit)
	}
	return v, nil
}

// unitFor is the unit that stands beside the value, in words.
func (i FieldInfo) unitFor(v Value) string {
	switch {
	case len(v.numbers) == 0:
		return "none"
	case i.Field == Price:
		return "a currency an hour, such as USD/h or CNY/h"
	}
	return i.Unit
}

func fieldNames() []string {
	var names []string
	for _, f := range Fields() {
		names = append(names, string(f.Field))
	}
	return names
}

func didYouMean(word string, known []string) string {
	if near := fault.Closest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "write one of " + strings.Join(known, ", ")
}

// Chips lists the chips.
func (c Catalogue) Chips() []Chip { return slices.Clone(c.chips) }

// Names lists their names.
func (c Catalogue) Names() []string {
	var names []string
	for _, chip := range c.chips {
		names = append(names, chip.Name)
	}
	return names
}

// Find gives the chip of that name. The error is a *fault.Input.
func (c Catalogue) Find(name string) (Chip, error) {
	i := slices.IndexFunc(c.chips, func(chip Chip) bool { return chip.Name == name })
	if i >= 0 {
		return c.chips[i], nil
	}
	next := "mistura chips lists them"
	if near := c.near(name); near != "" {
		next = "did you mean " + near + "? " + next
	}
	return Chip{}, &fault.Input{Where: "chip", Value: fault.Clip(name), Problem: "is not in the catalogue", Next: next}
}

// near finds the chips that may have been meant: those whose name begins so, or the closest.
func (c Catalogue) near(name string) string {
	var some []string
	for _, n := range c.Names() {
		if strings.HasPrefix(n, name) && name != "" {
			some = append(some, n)
		}
	}
	if len(some) > 0 {
		return strings.Join(some, " or ")
	}
	return fault.Closest(name, c.Names())
}

// Over lays the catalogue over another: what it says of a chip's field takes the
// place of all that the other says of it.
func (c Catalogue) Over(below Catalogue) Catalogue {
	out := Catalogue{Date: max(c.Date, below.Date), chips: slices.Clone(below.chips)}
	for _, top := range c.chips {
		i := slices.IndexFunc(out.chips, func(chip Chip) bool { return chip.Name == top.Name })
		if i < 0 {
			out.chips = append(out.chips, top)
			continue
		}
		merged := maps.Clone(out.chips[i].figures)
		maps.Copy(merged, top.figures)
		out.chips[i].figures = merged
	}
	return out
}

// Marshal writes the catalogue as a file that Parse reads.
func (c Catalogue) Marshal() []byte {
	var rows [][]string
	for _, chip := range c.chips {
		for _, field := range Fields() {
			for _, f := range chip.figures[field.Field] {
				rows = append(rows, []string{chip.Name, string(field.Field), f.Value.String(), f.Unit, string(f.Grade), f.Source, f.Date, f.Note})
			}
		}
	}
	return catalogueKind().write(c.Date, rows)
}

// Only is the catalogue of one of its chips.
func (c Catalogue) Only(chip Chip) Catalogue { return Catalogue{Date: c.Date, chips: []Chip{chip}} }

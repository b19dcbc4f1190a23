package chip

import "maps"

// With is the chip with another figure in place of all that is said of its field.
func (c Chip) With(field Field, f Figure) Chip {
	figures := maps.Clone(c.figures)
	if figures == nil {
		figures = map[Field][]Figure{}
	}
	figures[field] = []Figure{f}
	return Chip{Name: c.Name, figures: figures}
}

// ParseValue reads numbers as they stand in a catalogue: one, a range, variants, or
// none. The error says what is wrong with them.
func ParseValue(s string) (Value, error) {
	if s == noneWord {
		return Value{none: true}, nil
	}
	return parseNumbers(s)
}

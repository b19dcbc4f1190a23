package chip

import "encoding/json"

// figureJSON is a figure in JSON. What is not there is left out, never 0.
type figureJSON struct {
	Unknown  bool      `json:"unknown,omitempty"`
	None     bool      `json:"none,omitempty"`
	Text     string    `json:"text,omitempty"`
	Low      *float64  `json:"low,omitempty"`
	High     *float64  `json:"high,omitempty"`
	Variants []float64 `json:"variants,omitempty"`
	Unit     string    `json:"unit,omitempty"`
	Grade    Grade     `json:"grade,omitempty"`
	Source   string    `json:"source,omitempty"`
	Date     string    `json:"date,omitempty"`
	Note     string    `json:"note,omitempty"`
}

// MarshalJSON writes a figure: null when nothing is said of it.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.Known() && f.Note == "" {
		return []byte("null"), nil
	}
	out := figureJSON{Unknown: !f.Known(), None: f.None(), Text: f.Text(), Unit: f.Unit, Grade: f.Grade, Source: f.Source, Date: f.Date, Note: f.Note}
	if low, high, ok := f.Range(); ok {
		out.Low, out.High = &low, &high
	}
	if v := f.Variants(); len(v) > 1 {
		out.Variants = v
	}
	return json.Marshal(out)
}

// MarshalJSON writes a chip with every field; of one that may have several it is a list.
func (c Chip) MarshalJSON() ([]byte, error) {
	out := map[string]any{"chip": c.Name}
	for _, info := range Fields() {
		switch {
		case info.Many:
			out[string(info.Field)] = append([]Figure{}, c.figures[info.Field]...)
		default:
			out[string(info.Field)] = c.Of(info.Field)
		}
	}
	return json.Marshal(out)
}

// MarshalJSON writes the catalogue.
func (c Catalogue) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Format int    `json:"format"`
		Date   string `json:"date"`
		Chips  []Chip `json:"chips"`
	}{CatalogueFormat, c.Date, append([]Chip{}, c.chips...)})
}

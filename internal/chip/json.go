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

// measurementJSON is a measurement in JSON; what is not known is null.
type measurementJSON struct {
	Chip      string    `json:"chip"`
	Operation Operation `json:"operation"`
	Format    *string   `json:"format"`
	Shape     string    `json:"shape"`
	Group     *int      `json:"group"`
	Median    *float64  `json:"median"`
	Low       *float64  `json:"low"`
	High      *float64  `json:"high"`
	Unit      string    `json:"unit"`
	Peak      *float64  `json:"peak"`
	Share     *float64  `json:"share"`
	Samples   *float64  `json:"samples"`
	Software  *string   `json:"software"`
	Grade     Grade     `json:"grade"`
	Source    string    `json:"source"`
	Date      string    `json:"date"`
	Note      string    `json:"note"`
}

// MarshalJSON writes a measurement.
func (m Measurement) MarshalJSON() ([]byte, error) {
	return json.Marshal(measurementJSON{
		Chip: m.Chip, Operation: m.Operation, Format: said(m.Format), Shape: m.Shape, Group: said(m.Group),
		Median: known(m.Median.Exact()), Low: known(m.Low.Exact()), High: known(m.High.Exact()), Unit: m.Unit, Peak: known(m.Peak.Exact()), Share: known(m.Share()),
		Samples: known(m.Samples.Exact()), Software: said(m.Software), Grade: m.Grade, Source: m.Source, Date: m.Date, Note: m.Note,
	})
}

// known is null for what is not.
func known(x float64, ok bool) *float64 {
	if !ok {
		return nil
	}
	return &x
}

// said is null for a cell without content.
func said[T comparable](x T) *T {
	var nothing T
	if x == nothing {
		return nil
	}
	return &x
}

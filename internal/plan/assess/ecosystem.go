package assess

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// ecosystem is what the catalogue says of software.
func (q Question) ecosystem(own Side) Ecosystem {
	e := Ecosystem{Items: []Item{}, Traps: []Item{}, Unknown: []string{}}
	var known []chip.Figure
	for _, field := range []struct {
		chip.Field
		name string
	}{{chip.Torch, "PyTorch"}, {chip.Collectives, "collectives"}, {chip.Frameworks, "frameworks"}, {chip.Resource, "Kubernetes"}, {chip.Visible, "visibility"}} {
		f := q.Chip.Of(field.Field)
		if !f.Known() {
			e.Unknown = append(e.Unknown, field.name)
			continue
		}
		known = append(known, f)
		e.Items = append(e.Items, item(field.name, f))
	}
	formats, missing := q.formats()
	e.Items = append(e.Items, formats)
	e.Unknown = append(e.Unknown, missing...)
	for _, f := range q.Chip.All(chip.Quirk) {
		known = append(known, f)
		e.Traps = append(e.Traps, item("", f))
	}
	if len(e.Traps) == 0 {
		e.Unknown = append(e.Unknown, "numeric traps (none is in the catalogue)")
	}
	e.Grade = chip.Worst(known...)
	e.Unknown = append(e.Unknown, q.gaps(own)...)
	return e
}

func item(name string, f chip.Figure) Item {
	return Item{Name: name, Said: f.Value.String(), Grade: f.Grade, Source: f.Source, Date: f.Date}
}

// formats says which number formats have a peak, in TFLOPS.
func (q Question) formats() (Item, []string) {
	var have, missing []string
	var figures []chip.Figure
	for _, field := range []chip.Field{chip.BF16, chip.FP16, chip.FP8, chip.FP4} {
		f := q.Chip.Of(field)
		switch {
		case f.None():
			have = append(have, string(field)+" none")
		case f.Known():
			figures = append(figures, f)
			have = append(have, string(field)+" "+f.Value.String())
		default:
			missing = append(missing, "peak in "+string(field))
		}
	}
	return Item{Name: "formats", Said: strings.Join(have, ", "), Grade: chip.Worst(figures...)}, missing
}

// gaps are what the predictions would need and nobody knows.
func (q Question) gaps(own Side) []string {
	var all []string
	for _, field := range []chip.Field{chip.MemoryGB, chip.BandwidthGBs, chip.LinkGBs, chip.NICGbits, chip.HostLinkGBs, chip.MTBFHours} {
		if !q.Chip.Of(field).Known() {
			all = append(all, string(field))
		}
	}
	if len(q.Chip.Currencies()) == 0 {
		all = append(all, "price")
	}
	switch e := own.Evidence; {
	case e.Runs == 0:
		all = append(all, "how fast it trains: no published run can be compared")
	case !e.Proven():
		all = append(all, fmt.Sprintf("how fast it trains: %d published runs, fewer than %d", e.Runs, plan.Proven))
	}
	return all
}

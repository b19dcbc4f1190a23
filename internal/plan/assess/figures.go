package assess

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/plan"
)

// machine is a chip as numbers: as it is taken to be, and at both ends of what had to
// be assumed.
type machine struct {
	mid, worst, best plan.Hardware
	assumed          []string
}

// like is how far the peak of a chip may be from another's, either way, for a figure
// of it to stand in.
const like = 3

// machineOf completes a chip. Without memory or a peak it is a *fault.Input.
func (q Question) machineOf(c chip.Chip) (machine, error) {
	var m machine
	peak, _ := chip.Peak(q.Format)
	for _, field := range []chip.Field{peak, chip.MemoryGB} {
		if _, _, ok := c.Of(field).Range(); !ok {
			return m, unknown(c, field)
		}
	}
	worst, best := c, c
	for _, field := range []chip.Field{chip.BandwidthGBs, chip.LinkGBs, chip.NICGbits} {
		if f := c.Of(field); f.Known() || q.sister(c, field) {
			continue
		}
		low, high, ok := q.alike(c, field)
		if !ok {
			return m, unknown(c, field)
		}
		info := unitOf(field)
		m.assumed = append(m.assumed, fmt.Sprintf("%s %g to %g %s, as chips of a like peak have", field, low, high, info))
		worst = worst.With(field, assumedFigure(low, info))
		best = best.With(field, assumedFigure(high, info))
	}
	var err error
	if m.worst, err = plan.HardwareOf(worst, q.Catalogue.Chips()...); err != nil {
		return m, err
	}
	if m.best, err = plan.HardwareOf(best, q.Catalogue.Chips()...); err != nil {
		return m, err
	}
	m.assumed = append(m.assumed, m.worst.Assumed...)
	m.mid = middle(m.worst, m.best)
	return m, nil
}

// share says what part of the peak products reach.
func (m *machine) share(r plan.Range, said string) {
	m.assumed = append(m.assumed, said)
	fixed := func(x float64) *plan.Range { return &plan.Range{Low: x, Mid: x, High: x} }
	m.worst.Share, m.mid.Share, m.best.Share = fixed(r.Low), fixed(r.Mid), fixed(r.High)
}

// middle is between two chips in what was assumed of them.
func middle(a, b plan.Hardware) plan.Hardware {
	m := a
	m.Bandwidth, m.Link, m.NIC = (a.Bandwidth+b.Bandwidth)/2, (a.Link+b.Link)/2, (a.NIC+b.NIC)/2
	return m
}

// sister says that another chip of the architecture has the figure, for plan to take.
func (q Question) sister(c chip.Chip, field chip.Field) bool {
	arch := c.Of(chip.Arch).Text()
	return arch != "" && slices.ContainsFunc(q.Catalogue.Chips(), func(s chip.Chip) bool {
		_, ok := s.Of(field).Exact()
		return ok && s.Of(chip.Arch).Text() == arch
	})
}

// alike is the range of a figure over the linked chips of the catalogue with a like
// peak; of bandwidth over those with the same kind of memory, if any.
func (q Question) alike(c chip.Chip, field chip.Field) (low, high float64, ok bool) {
	from, to, ok := half(c).Range()
	if !ok {
		return 0, 0, false
	}
	var some, same []chip.Figure
	kind := c.Of(chip.MemoryKind)
	for _, other := range q.Catalogue.Chips() {
		x, y, ok := half(other).Range()
		_, _, linked := other.Of(chip.LinkGBs).Range()
		figure := other.Of(field)
		if !ok || !linked || !figure.Known() || figure.Grade == chip.Assumed || y*like < from || x > to*like {
			continue
		}
		some = append(some, figure)
		if field == chip.BandwidthGBs && kind.Known() && other.Of(chip.MemoryKind).Equal(kind.Value) {
			same = append(same, figure)
		}
	}
	if len(same) > 0 {
		some = same
	}
	return chip.Hull(some...).Range()
}

// half is the peak in 16 bits.
func half(c chip.Chip) chip.Figure {
	if f := c.Of(chip.BF16); !f.None() && f.Known() {
		return f
	}
	return c.Of(chip.FP16)
}

func unitOf(field chip.Field) string {
	for _, info := range chip.Fields() {
		if info.Field == field {
			return info.Unit
		}
	}
	return ""
}

func assumedFigure(x float64, unit string) chip.Figure {
	return chip.Figure{Value: chip.Number(x), Unit: unit, Grade: chip.Assumed, Source: "chips of a like peak"}
}

func unknown(c chip.Chip, field chip.Field) error {
	problem, next := "is not known", "state it in a catalogue of your own (--catalogue)"
	if c.Of(field).None() {
		problem, next = "is a format that it has not", "choose another format"
		if f := half(c); f.Known() && !f.None() && field == chip.BF16 {
			problem += ", but fp16"
		}
	}
	return &fault.Input{Where: c.Name, Value: string(field), Problem: problem, Next: next}
}

// reason is why there is no prediction, in a few words.
func reason(err error) string {
	var in *fault.Input
	if errors.As(err, &in) && in.Value != "" {
		return in.Value + " " + in.Problem
	}
	return err.Error()
}

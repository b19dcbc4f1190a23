package fleet

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/sheet"
)

// figures lays a pool's own figures over its chip's.
func (b *builder) figures(path string, own figures, p *Pool) {
	v := reflect.ValueOf(own)
	for i := range v.NumField() {
		key := sheet.Key(v.Type().Field(i))
		at, f := path+"."+key, v.Field(i).Interface().(figure)
		switch {
		case !b.says(at):
		case f.Value == "":
			b.refuse(at, "", "has no value", "write "+f.Wanted())
		case key == efficiencyKey:
			b.efficiency(at, f, p)
		default:
			b.figure(at, chip.Field(key), f, p)
		}
	}
}

// figure is one that the catalogue has a field for.
func (b *builder) figure(path string, field chip.Field, f figure, p *Pool) {
	unit, whole := unitOf(field)
	value, err := f.numbers(unit)
	if err != nil {
		b.refuse(path, f.Value, err.Error(), fmt.Sprintf("write %s in %s, a number or a range such as 354..376", field, unit))
		return
	}
	if x, exact := value.Exact(); whole && (!exact || x != float64(int64(x))) {
		b.refuse(path, f.Value, "is no whole number", fmt.Sprintf("write %s in whole %s", field, unit))
		return
	}
	grade := chip.FirstHand
	if f.Assumed {
		grade = chip.Assumed
	}
	p.Chip = p.Chip.With(field, chip.Figure{Value: value, Unit: unit, Grade: grade, Source: cmp.Or(f.Source, b.name)})
	p.Own = append(p.Own, Own{Key: string(field), Text: strings.TrimSpace(value.String() + " " + unit), Assumed: f.Assumed, Source: f.Source})
}

// efficiency is the share of the peak that products reach.
func (b *builder) efficiency(path string, f figure, p *Pool) {
	value, err := chip.ParseValue(strings.TrimSpace(f.Value))
	low, high, ok := value.Range()
	if err != nil || !ok || high > 1 {
		b.refuse(path, f.Value, "is no share of the peak", "write a number above 0 and at most 1 with up to six decimals, or a range such as 0.35..0.45")
		return
	}
	p.Efficiency = &Span{Low: low, High: high}
	p.Own = append(p.Own, Own{Key: efficiencyKey, Text: value.String(), Assumed: f.Assumed, Source: f.Source})
}

// unitOf is the unit of a field of the catalogue.
func unitOf(field chip.Field) (unit string, whole bool) {
	for _, info := range chip.Fields() {
		if info.Field == field {
			return info.Unit, info.Whole
		}
	}
	panic("fleet: no field " + string(field) + " in the catalogue")
}

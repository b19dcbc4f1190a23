package chip

import (
	_ "embed" // the built-in table
	"strconv"
)

//go:embed efficiency.csv
var builtinTable []byte

// TableFormat is the format of tables that is written, and the newest that is read.
// History: 1 first version; 2 has the operation copy.
const TableFormat = 2

func tableKind() kind {
	return kind{"mistura efficiency", TableFormat, []string{"chip", "operation", "format", "shape", "group", "median", "low", "high", "unit", "peak",
		"samples", "software", "grade", "source", "date", "note"}}
}

// BuiltinTable is the table that the program carries.
func BuiltinTable() Table {
	t, err := ParseTable("efficiency.csv", builtinTable)
	if err != nil {
		panic("chip: " + err.Error()) // a test reads it
	}
	return t
}

// ParseTable reads a table. The name stands in errors, all of which are *fault.Input.
func ParseTable(name string, data []byte) (Table, error) {
	date, rows, err := tableKind().rows(name, data)
	if err != nil {
		return Table{}, err
	}
	t := Table{Date: date}
	seen := map[identity]bool{}
	for _, r := range rows {
		m, err := r.measurement()
		if err != nil {
			return Table{}, err
		}
		id := identity{m.Key, m.Software, m.Source, m.Date}
		if seen[id] {
			return Table{}, r.fault("shape", "has a row already, of the same chip, operation, format, group, software, source and date", "keep one")
		}
		seen[id] = true
		t.Rows = append(t.Rows, m)
	}
	return t, nil
}

// identity tells measurements apart.
type identity struct {
	Key
	software, source, date string
}

// measurement reads a row.
func (r row) measurement() (Measurement, error) {
	f, err := r.evidence()
	if err != nil {
		return Measurement{}, err
	}
	m := Measurement{
		Key:  Key{Chip: r.cells["chip"], Operation: Operation(r.cells["operation"]), Format: r.cells["format"], Shape: r.cells["shape"]},
		Unit: r.cells["unit"], Software: r.cells["software"], Grade: f.Grade, Source: f.Source, Date: f.Date, Note: f.Note,
	}
	var group Value
	for i, to := range []*Value{&m.Median, &m.Low, &m.High, &m.Peak, &m.Samples, &group} {
		if *to, err = r.number([]string{"median", "low", "high", "peak", "samples", "group"}[i]); err != nil {
			return Measurement{}, err
		}
	}
	if x, ok := group.Exact(); ok {
		m.Group = int(x)
	}
	if column, problem, next := m.check(); problem != "" {
		return Measurement{}, r.fault(column, problem, next)
	}
	return m, r.sane(m)
}

// number reads a cell that holds a number or nothing.
func (r row) number(column string) (Value, error) {
	s := r.cells[column]
	if s == "" {
		return Value{}, nil
	}
	x, err := parseNumber(s)
	if err != nil {
		return Value{}, r.fault(column, err.Error(), "write a number such as 271.2, or nothing if it is not known")
	}
	if whole := column == "group" || column == "samples"; whole && x != float64(int64(x)) {
		return Value{}, r.fault(column, "is not whole", "write a whole number")
	}
	return Number(x), nil
}

// sane refuses numbers that cannot be.
func (r row) sane(m Measurement) error {
	unit := m.unit()
	_, one := m.Median.Exact()
	_, low := m.Low.Exact()
	_, high := m.High.Exact()
	_, peak := m.Peak.Exact()
	switch {
	case m.Unit != unit && m.Unit != percent:
		return r.fault("unit", "is not the unit of "+string(m.Operation), "write "+unit+" or "+percent)
	case m.Unit == percent && !peak:
		return r.fault("peak", "is missing, of which "+percent+" are given", "write it in "+unit)
	case !one && !(low && high):
		return r.fault("median", "is missing", "write it, or low and high")
	case low != high:
		return r.fault("low", "stands without its other end", "write low and high, or neither")
	}
	for i, v := range []Value{m.Median, m.Low, m.High} {
		x, ok := m.absolute(v)
		if top, _ := m.Peak.Exact(); ok && peak && x > top && !m.collective() { // a switch that adds up moves fewer bytes than the bus bandwidth counts
			return r.fault([]string{"median", "low", "high"}[i], "is more than the peak: one of the two is of another format, or sparse", "compare with the dense peak of the format")
		}
	}
	if l, h, ok := m.Bounds(); ok && l > h || !inside(m) {
		return r.fault("median", "does not lie between low and high", "write low, median and high in that order of size")
	}
	return nil
}

// inside says that the median lies between low and high, as far as they are known.
func inside(m Measurement) bool {
	x, one := m.Rate()
	low, high, both := m.Bounds()
	return !one || !both || low <= x && x <= high
}

// collective says that the measurement is of a group of chips.
func (k Key) collective() bool {
	o, _ := infoOf(k.Operation)
	return o.Collective
}

// unit is what rates of the operation are counted in.
func (k Key) unit() string {
	if o, _ := infoOf(k.Operation); o.Bytes() {
		return perSecond
	}
	return tflops
}

// Marshal writes the table as a file that ParseTable reads.
func (t Table) Marshal() []byte {
	var rows [][]string
	for _, m := range t.Rows {
		rows = append(rows, []string{m.Chip, string(m.Operation), m.Format, m.Shape, m.group(), cell(m.Median), cell(m.Low), cell(m.High), m.Unit, cell(m.Peak),
			cell(m.Samples), m.Software, string(m.Grade), m.Source, m.Date, m.Note})
	}
	return tableKind().write(t.Date, rows)
}

// cell is a number, or nothing if it is unknown.
func cell(v Value) string {
	if x, ok := v.Exact(); ok {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return ""
}

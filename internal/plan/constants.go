package plan

import (
	_ "embed" // the built-in constants
	"encoding/csv"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// Constant is a number that was fitted to published runs, or is taken for granted.
type Constant struct {
	Name  string // what.scope, such as product.sm_90.fp8
	Value float64
	Rows  int // calibration runs that it moves; 0: not fitted
}

// Constants are what real machines make of their peaks.
type Constants struct {
	Date string
	list []Constant
	at   map[string]int // places in the list
}

//go:embed constants.csv
var builtinConstants []byte

// BuiltinConstants are those that the program carries.
func BuiltinConstants() Constants {
	k, err := ParseConstants("constants.csv", builtinConstants)
	if err != nil {
		panic("plan: " + err.Error()) // a test reads it
	}
	return k
}

// ParseConstants reads a file of constants: a line "mistura constants,1,DATE", one of
// titles, and a row each of name, value and rows.
func ParseConstants(name string, data []byte) (Constants, error) {
	r := csv.NewReader(strings.NewReader(string(data)))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 2 || len(rows[0]) != 3 || rows[0][0] != constantsTitle || rows[0][1] != "1" {
		return Constants{}, &fault.Input{Where: name, Problem: "is no file of constants of format 1", Next: "begin it with " + constantsTitle + ",1,DATE"}
	}
	k := Constants{Date: rows[0][2]}
	if _, err := time.Parse(time.DateOnly, k.Date); err != nil {
		return Constants{}, &fault.Input{Where: name, Value: fault.Clip(k.Date), Problem: "is no day", Next: "write it as 2026-11-29"}
	}
	for i, row := range rows[2:] {
		c, err := parseConstant(row)
		if _, twice := k.at[c.Name]; err == nil && twice {
			err = fmt.Errorf("is there twice")
		}
		if err != nil {
			return Constants{}, &fault.Input{Where: fmt.Sprintf("%s:%d", name, i+3), Value: fault.Clip(strings.Join(row, ",")), Problem: err.Error(), Next: "write name,value,rows"}
		}
		k.put(c)
	}
	return k, nil
}

// put sets a constant.
func (k *Constants) put(c Constant) {
	if k.at == nil {
		k.at = map[string]int{}
	}
	if i, ok := k.at[c.Name]; ok {
		k.list[i] = c
		return
	}
	k.at[c.Name] = len(k.list)
	k.list = append(k.list, c)
}

const constantsTitle = "mistura constants"

func parseConstant(row []string) (Constant, error) {
	if len(row) != 3 {
		return Constant{}, fmt.Errorf("has %d cells", len(row))
	}
	if !regexp.MustCompile(`^[a-z0-9_.]+$`).MatchString(row[0]) {
		return Constant{}, fmt.Errorf("has no name of letters, digits and points")
	}
	v, err := strconv.ParseFloat(row[1], 64)
	if err != nil || !(v >= 0 && v <= 1e12) {
		return Constant{}, fmt.Errorf("has no value")
	}
	n, err := strconv.Atoi(row[2])
	if err != nil || n < 0 {
		return Constant{}, fmt.Errorf("has no number of rows")
	}
	return Constant{row[0], v, n}, nil
}

// Marshal writes the file that ParseConstants reads.
func (k Constants) Marshal() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s,1,%s\nname,value,rows\n", constantsTitle, k.Date)
	for _, c := range k.list {
		fmt.Fprintf(&b, "%s,%s,%d\n", c.Name, strconv.FormatFloat(c.Value, 'g', 4, 64), c.Rows)
	}
	return []byte(b.String())
}

// All lists the constants.
func (k Constants) All() []Constant { return slices.Clone(k.list) }

// With is the constants with some set anew.
func (k Constants) With(some ...Constant) Constants {
	out := Constants{Date: k.Date, list: slices.Clone(k.list), at: maps.Clone(k.at)}
	for _, c := range some {
		out.put(c)
	}
	return out
}

// of finds what.scope, or what without the last part of its scope, and so on: its name
// says which. Every what is there, for BuiltinConstants and all that With makes of them have it.
func (k Constants) of(name string) Constant {
	for asked := name; ; {
		if i, ok := k.at[name]; ok {
			return k.list[i]
		}
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			panic("plan: no constant " + asked)
		}
		name = name[:i]
	}
}

// Of is the constant of that name, or the value of the more general one that stands in for it.
func (k Constants) Of(name string) Constant {
	c := k.of(name)
	if c.Name != name {
		return Constant{Name: name, Value: c.Value}
	}
	return c
}

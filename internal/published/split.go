package published

import (
	"bytes"
	_ "embed" // the built-in files
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

//go:embed runs.csv
var builtinRuns []byte

//go:embed sources.csv
var builtinSources []byte

// Builtin are the runs that the program carries.
func Builtin() []Run {
	runs, err := Parse("runs.csv", builtinRuns)
	if err != nil {
		panic("published: " + err.Error()) // a test reads it
	}
	return runs
}

// Side is what a source is for.
type Side string

// Sides.
const (
	Calibration Side = "calibration" // constants may be fitted to its runs
	Test        Side = "test"        // its runs are predicted only
)

// Source is what is decided about one source.
type Source struct {
	Name   string
	Side   Side
	Counts Counting // of its rates; empty: not known, or it has none
	Date   string   // of the decision
	Reason string
}

// Split says which sources constants may be fitted to. A source that is not in it is
// for tests.
type Split struct {
	Sources []Source

	fitted   map[string]bool // ids of runs
	versions map[string]version
	year     int // of the latest run that is fitted to
}

// BuiltinSplit is the split of the runs that the program carries.
func BuiltinSplit(chips chip.Catalogue) Split {
	s, err := parseSplit("sources.csv", builtinSources, Builtin(), chips)
	if err != nil {
		panic("published: " + err.Error()) // a test reads it
	}
	return s
}

func parseSplit(name string, data []byte, runs []Run, chips chip.Catalogue) (Split, error) {
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return Split{}, unreadable(name, err)
	}
	s := Split{fitted: make(map[string]bool), versions: make(map[string]version)}
	for i, row := range rows {
		if i == 0 {
			continue
		}
		source := Source{Name: row[0], Side: Side(row[1]), Counts: Counting(row[2]), Date: row[3], Reason: row[4]}
		if _, twice := s.find(source.Name); twice || source.Side != Calibration && source.Side != Test {
			return Split{}, &fault.Input{Where: fmt.Sprintf("%s:%d", name, i+1), Value: row[1], Problem: "is no side, or the source is listed already", Next: "write calibration or test, once"}
		}
		s.Sources = append(s.Sources, source)
	}
	for _, r := range runs {
		if s.Of(r.Source).Side == Calibration {
			s.fit(r, chips)
		}
	}
	return s, nil
}

// fit notes a run that constants may be fitted to, if it can be compared.
func (s *Split) fit(r Run, chips chip.Catalogue) {
	c, err := r.Case(chips)
	if err != nil {
		return
	}
	if _, err := c.Step(s.Of(r.Source).Counts); err != nil {
		return
	}
	s.fitted[r.ID] = true
	s.year = max(s.year, r.Year.Or(0))
	if name, v, ok := parseVersion(r.Software); ok && v.after(s.versions[name]) {
		s.versions[name] = v
	}
}

func (s Split) find(name string) (Source, bool) {
	for _, source := range s.Sources {
		if source.Name == name {
			return source, true
		}
	}
	return Source{}, false
}

// Of is what is decided about a source; nobody has looked at one that is not listed,
// and it is for tests.
func (s Split) Of(name string) Source {
	if source, ok := s.find(name); ok {
		return source
	}
	return Source{Name: name, Side: Test, Reason: "not listed"}
}

// Calibrates says that constants may be fitted to a run: it is one of those that the
// program carries, of a source for calibration, and can be compared. A run of such a source
// that the program does not carry is a test like any other.
func (s Split) Calibrates(r Run) bool { return s.fitted[r.ID] && s.Of(r.Source).Side == Calibration }

// Newer says that a run was made with newer software than any run that constants are
// fitted to: a later version of the same software or, where none is stated or none
// of that name is fitted to, a later year.
func (s Split) Newer(r Run) bool {
	if name, v, ok := parseVersion(r.Software); ok {
		if fitted, known := s.versions[name]; known {
			return v.after(fitted)
		}
	}
	return r.Year.Or(0) > s.year
}

// version is numbers between dots.
type version []int

func (v version) after(w version) bool {
	for i, n := range v {
		if i >= len(w) {
			return true
		}
		if n != w[i] {
			return n > w[i]
		}
	}
	return false
}

// parseVersion takes "name 26.04.01" apart.
func parseVersion(software string) (name string, v version, ok bool) {
	i := strings.LastIndexByte(software, ' ')
	if i < 1 {
		return "", nil, false
	}
	for _, part := range strings.Split(software[i+1:], ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return "", nil, false
		}
		v = append(v, n)
	}
	return strings.ToLower(software[:i]), v, true
}

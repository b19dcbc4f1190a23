package chip

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/fault"
)

// Bounds of a file: far above any that people write by hand.
const (
	maxBytes = 4 << 20
	maxRunes = 600 // of a cell
)

// row is one line of a file, by the names of its columns.
type row struct {
	file  string
	line  int
	cells map[string]string
}

// fault is bad input in a cell of the row.
func (r row) fault(column, problem, next string) error {
	return &fault.Input{Where: fmt.Sprintf("%s:%d: %s", r.file, r.line, column), Value: r.cells[column], Problem: problem, Next: next}
}

// kind is one of the two files: its first word, its format and its columns.
type kind struct {
	word    string
	format  int
	columns []string
}

// rows reads a file: a line of its kind, format and date; the names of the columns;
// then the rows. Every error is a *fault.Input.
func (k kind) rows(name string, data []byte) (date string, all []row, err error) {
	if len(data) > maxBytes {
		return "", nil, &fault.Input{Where: name, Problem: fmt.Sprintf("has %d bytes, at most %d are read", len(data), maxBytes), Next: "give a file of " + k.word}
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	r.FieldsPerRecord, r.Comment = -1, '#'
	for n := 0; ; n++ {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) && n >= 2 {
			return date, all, nil
		}
		if err != nil {
			return "", nil, k.unreadable(name, err)
		}
		line, _ := r.FieldPos(0)
		at := row{file: name, line: line}
		switch n {
		case 0:
			date, err = k.first(at, cells)
		case 1:
			err = k.second(at, cells)
		default:
			at, err = k.cells(at, cells)
			all = append(all, at)
		}
		if err != nil {
			return "", nil, err
		}
	}
}

func (k kind) unreadable(name string, err error) error {
	if errors.Is(err, io.EOF) {
		return &fault.Input{Where: name, Problem: "ends before its first row", Next: k.begin()}
	}
	var p *csv.ParseError
	if errors.As(err, &p) {
		return fault.NotSeparated(name, p)
	}
	return &fault.Input{Where: name, Problem: "cannot be read: " + err.Error(), Next: k.begin()}
}

// begin says how a file begins.
func (k kind) begin() string {
	return fmt.Sprintf("begin with the lines %q and %q", fmt.Sprintf("%s,%d,2026-11-29", k.word, k.format), strings.Join(k.columns, ","))
}

// first reads the line that says what the file is.
func (k kind) first(at row, cells []string) (date string, err error) {
	for len(cells) > 3 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1] // a spreadsheet fills lines up
	}
	where := fmt.Sprintf("%s:%d", at.file, at.line)
	if len(cells) != 3 || cells[0] != k.word {
		return "", &fault.Input{Where: where, Value: fault.Clip(strings.Join(cells, ",")), Problem: "is not how a file of " + k.word + " begins", Next: k.begin()}
	}
	switch n, err := strconv.Atoi(cells[1]); {
	case err != nil || n < 1:
		return "", &fault.Input{Where: where + ": format", Value: fault.Clip(cells[1]), Problem: "is no format", Next: k.begin()}
	case n > k.format:
		return "", &fault.Input{Where: where + ": format", Value: cells[1], Problem: fmt.Sprintf("is newer than %d, which this mistura reads", k.format), Next: "use a newer mistura"}
	}
	if !isDate(cells[2]) {
		return "", &fault.Input{Where: where + ": date", Value: fault.Clip(cells[2]), Problem: "is no date", Next: "write it as 2026-11-29"}
	}
	return cells[2], nil
}

// second reads the names of the columns, which are always the same ones.
func (k kind) second(at row, cells []string) error {
	if slices.Equal(cells, k.columns) {
		return nil
	}
	return &fault.Input{Where: fmt.Sprintf("%s:%d", at.file, at.line), Value: fault.Clip(strings.Join(cells, ",")), Problem: "are not the columns", Next: "write " + strings.Join(k.columns, ",")}
}

// cells names the cells of a row.
func (k kind) cells(at row, cells []string) (row, error) {
	if len(cells) != len(k.columns) {
		return at, &fault.Input{Where: fmt.Sprintf("%s:%d", at.file, at.line), Problem: fmt.Sprintf("has %d cells, not %d", len(cells), len(k.columns)),
			Next: "fill " + strings.Join(k.columns, ",") + `; a cell with a comma stands in "…"`}
	}
	at.cells = make(map[string]string, len(cells))
	for i, column := range k.columns {
		at.cells[column] = cells[i]
		if problem := unprintable(cells[i]); problem != "" {
			at.cells[column] = fault.Clip(cells[i])
			return at, at.fault(column, problem, "write plain text")
		}
	}
	return at, nil
}

// unprintable says why a cell cannot be shown on one line; empty if it can.
func unprintable(s string) string {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) }
	switch {
	case !utf8.ValidString(s):
		return "is no UTF-8"
	case utf8.RuneCountInString(s) > maxRunes:
		return fmt.Sprintf("has more than %d characters", maxRunes)
	case strings.ContainsFunc(s, bad):
		return "has characters that cannot be shown"
	case s != strings.TrimSpace(s):
		return "begins or ends with a space"
	}
	return ""
}

// grade, source, date and note of a row, of which all but the note must be there.
func (r row) evidence() (f Figure, err error) {
	f = Figure{Grade: Grade(r.cells["grade"]), Source: r.cells["source"], Date: r.cells["date"], Note: r.cells["note"]}
	switch {
	case !slices.Contains(Grades(), f.Grade):
		return f, r.fault("grade", "is no grade", "write "+gradesInWords())
	case f.Source == "":
		return f, r.fault("source", "is missing", "say who says so, or make the value unknown")
	case !isDate(f.Date):
		return f, r.fault("date", "is no date", "write when the source said it, or was read: 2026, 2026-11 or 2026-11-29")
	}
	return f, nil
}

func gradesInWords() string {
	var words []string
	for _, g := range Grades() {
		words = append(words, string(g)+" ("+g.Means()+")")
	}
	return strings.Join(words, ", ")
}

// write gives the bytes of a file.
func (k kind) write(date string, rows [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write([]string{k.word, strconv.Itoa(k.format), date}) // to memory: it cannot fail
	_ = w.Write(k.columns)
	_ = w.WriteAll(rows)
	return b.Bytes()
}

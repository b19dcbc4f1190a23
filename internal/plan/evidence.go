package plan

import (
	"bytes"
	_ "embed" // the built-in file
	"encoding/csv"
	"fmt"
	"math"
	"strconv"
)

// Evidence is how well predictions of a chip have held on published runs. It is
// written from the result of package validate, and a test says when it is out of date.
type Evidence struct {
	Chip        string
	Rows        int     // comparable published runs of the chip
	Tests       int     // those among them that constants were not fitted to
	Median, P90 float64 // of |predicted/measured − 1| of the tests, without any of all rows; NaN without rows
}

// Proven is the least number of published runs from which on a chip's error says
// something.
const Proven = 5

//go:embed evidence.csv
var builtinEvidence []byte

// EvidenceOf is the evidence of a chip; false where nobody has published a run.
func EvidenceOf(chip string) (Evidence, bool) {
	all, err := parseEvidence(builtinEvidence)
	if err != nil {
		panic("plan: evidence.csv: " + err.Error()) // a test reads it
	}
	for _, e := range all {
		if e.Chip == chip {
			return e, true
		}
	}
	return Evidence{Chip: chip, Median: math.NaN(), P90: math.NaN()}, false
}

// MarshalEvidence writes the file. Errors are to a tenth of a per cent.
func MarshalEvidence(all []Evidence) []byte {
	var b bytes.Buffer
	b.WriteString("chip,rows,tests,median,p90\n")
	for _, e := range all {
		fmt.Fprintf(&b, "%s,%d,%d,%.3f,%.3f\n", e.Chip, e.Rows, e.Tests, e.Median, e.P90)
	}
	return b.Bytes()
}

func parseEvidence(data []byte) ([]Evidence, error) {
	lines, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil || len(lines) == 0 || len(lines[0]) != 5 {
		return nil, fmt.Errorf("no table of five columns: %w", err)
	}
	var all []Evidence
	for _, cells := range lines[1:] {
		e := Evidence{Chip: cells[0]}
		for i, to := range []*int{&e.Rows, &e.Tests} {
			if *to, err = strconv.Atoi(cells[1+i]); err != nil {
				return nil, err
			}
		}
		for i, to := range []*float64{&e.Median, &e.P90} {
			if *to, err = strconv.ParseFloat(cells[3+i], 64); err != nil {
				return nil, err
			}
		}
		all = append(all, e)
	}
	return all, nil
}

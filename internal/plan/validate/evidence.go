package validate

import (
	"math"

	"github.com/mistura-project/mistura/internal/plan"
)

// EvidenceOf sums up, by chip, how well predictions held: on rows that nothing was
// fitted to, or on all where there is none.
func EvidenceOf(rows []Row) []plan.Evidence {
	all, tests := map[string][]float64{}, map[string][]float64{}
	for _, r := range rows {
		if r.Skipped != "" || r.Anchor {
			continue
		}
		all[r.Chip] = append(all[r.Chip], float64(r.Error))
		if r.Scored() {
			tests[r.Chip] = append(tests[r.Chip], float64(r.Error))
		}
	}
	var out []plan.Evidence
	for _, chip := range sorted(all) {
		e := plan.Evidence{Chip: chip, Rows: len(all[chip]), Tests: len(tests[chip])}
		errors := tests[chip]
		if e.Tests == 0 {
			errors = all[chip]
		}
		s := statsOf(errors)
		e.Median, e.P90 = round(s.Median), round(s.P90)
		out = append(out, e)
	}
	return out
}

// round is to a tenth of a per cent, as the file has it.
func round(n Number) float64 { return math.Round(1000*float64(n)) / 1000 }

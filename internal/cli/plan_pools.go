package cli

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// alone shows what each pool can do without the others.
func (p *planned) alone(out *page) {
	var rows []string
	for _, j := range p.answer.Pools {
		if j.Alone == nil {
			continue
		}
		rows = append(rows, cells(clipped(j.Pool), fmt.Sprint(j.Alone.Chips), lasting(j.Alone.Seconds.Mid), money(j.Alone.Cost.Mid, p.answer.Currency), percentOf(j.Alone.MFU), j.Misses))
	}
	if len(rows) == 0 {
		return
	}
	out.section("Each pool alone, predicted; of one that does not keep what is asked for, the fastest")
	out.table(append([]string{cells("pool", "chips", "time", "cost", "MFU", "")}, rows...)...)
}

// pools shows each pool: what became of it, and what predictions of its chip are worth.
func (p *planned) pools(out *page) {
	out.section("The pools")
	rows := []string{cells("pool", "chip", "chips", "used", "rows", "error, p90", "fate")}
	for _, j := range p.answer.Pools {
		e := evidenceOf(j.Chip)
		rows = append(rows, cells(clipped(j.Pool), clipped(j.Chip), fmt.Sprint(j.Chips), fmt.Sprint(j.Used), fmt.Sprint(e.Rows), e.text(), fate(j)))
	}
	out.table(rows...)
	for _, j := range p.answer.Pools {
		if why := j.Rejected + j.Unused; why != "" {
			out.note(j.Pool + ": " + why)
		}
		if len(j.Assumed) > 0 {
			out.note(j.Pool + ", assumed: " + strings.Join(j.Assumed, "; "))
		}
	}
	out.note(fmt.Sprintf("Rows are published runs on that chip; errors those of step times predicted for them, median and 90th percentile. Fewer than %d: unproven.", plan.Proven))
}

// fate is what became of a pool, in a word.
func fate(j search.Judged) string {
	switch {
	case j.Rejected != "":
		return "rejected"
	case j.Used == 0:
		return "not used"
	}
	return "used"
}

// evidence is what is known of predictions of a chip.
type evidence struct {
	Rows     int      `json:"published_rows"`
	Tests    int      `json:"test_rows"`
	Median   *float64 `json:"median_abs_error"` // null: not known
	P90      *float64 `json:"p90_abs_error"`
	Unproven bool     `json:"unproven"`
}

func evidenceOf(chip string) evidence { return weighed(plan.EvidenceOf(chip)) }

func weighed(e plan.Evidence, some bool) evidence {
	out := evidence{Rows: e.Rows, Tests: e.Tests, Unproven: e.Rows < plan.Proven}
	if some && e.Rows > 0 {
		out.Median, out.P90 = &e.Median, &e.P90
	}
	return out
}

func (e evidence) text() string {
	if e.Unproven || e.Median == nil {
		return "unproven"
	}
	return fmt.Sprintf("%.1f %%, %.1f %%", 100**e.Median, 100**e.P90)
}

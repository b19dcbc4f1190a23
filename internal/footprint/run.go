package footprint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// Run is what the processes of a run take at most, in bytes.
type Run struct {
	Parent  int64
	Islands []int64 // in the order of the run
}

// Of counts the memory of a resolved run, whose validation loss is measured evalRows
// sequences at a time. Outside: islands may come from other hosts.
func Of(run runfile.Run, evalRows int, outside bool) Run {
	r := Run{Parent: parent(run, evalRows, outside)}
	for _, i := range run.Islands {
		r.Islands = append(r.Islands, island(run, i))
	}
	return r
}

// Total is the sum.
func (r Run) Total() int64 {
	sum := r.Parent
	for _, i := range r.Islands {
		sum += i
	}
	return sum
}

// String reads "memory: 2 islands x 151 MB + 160 MB = 462 MB".
func (r Run) String() string {
	var parts []string
	for from := 0; from < len(r.Islands); {
		to := from
		for to < len(r.Islands) && r.Islands[to] == r.Islands[from] {
			to++
		}
		word := "islands"
		if to-from == 1 {
			word = "island"
		}
		parts = append(parts, fmt.Sprintf("%d %s x %s", to-from, word, ledger.Bytes(r.Islands[from])))
		from = to
	}
	parts = append(parts, ledger.Bytes(r.Parent))
	return fmt.Sprintf("memory: %s = %s", strings.Join(parts, " + "), ledger.Bytes(r.Total()))
}

// Fits refuses a run that takes more than the bytes that there are; 0 is unknown.
func (r Run) Fits(run runfile.Run, have int64) error {
	if have == 0 || r.Total() <= have {
		return nil
	}
	of := "the coordinator alone"
	if len(r.Islands) > 0 {
		of = fmt.Sprintf("%d islands of up to %s and %s beside", len(r.Islands), ledger.Bytes(slices.Max(r.Islands)), ledger.Bytes(r.Parent))
	}
	where := "model.preset"
	if run.Model.Foreign() {
		where = "model"
	}
	return &fault.Input{
		Where: run.Where(where), Value: run.Model.Name,
		Problem: fmt.Sprintf("needs %s of memory (%s), this machine has %s", ledger.Bytes(r.Total()), of, ledger.Bytes(have)),
		Next:    "choose a smaller model or fewer islands, or a machine with more memory",
	}
}

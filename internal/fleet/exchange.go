package fleet

import (
	"fmt"
	"strconv"

	"github.com/mistura-project/mistura/internal/sheet"
)

const maxIslands = 10_000

// exchange reads what bounds islands and periods.
func (b *builder) exchange(f file) Exchange {
	e := Exchange{Islands: b.islands("islands", f.Islands), Period: b.period("period", f.Period), MaxIslands: b.islands("max_islands", f.MaxIslands), MaxPeriod: b.period("max_period", f.MaxPeriod), MaxLoss: f.MaxLoss}
	for _, both := range [][2]string{{"islands", "max_islands"}, {"period", "max_period"}, {"losses", "islands"}, {"losses", "period"}, {"losses", "max_islands"}, {"losses", "max_period"}} {
		if b.says(both[0]) && b.says(both[1]) {
			b.refuse(both[1], "", "cannot go with "+both[0], "keep one of them")
		}
	}
	for _, pair := range [][2]string{{"losses", "max_loss"}, {"max_loss", "losses"}} {
		if b.says(pair[0]) && !b.says(pair[1]) {
			b.refuse(pair[0], "", "needs "+pair[1]+" beside it", "give the losses that a rehearsal measured, and the highest that you accept")
		}
	}
	for i, l := range f.Losses {
		path := entryPath("losses", i)
		for _, key := range []string{"islands", "period", "loss"} {
			if !b.says(path + "." + key) {
				b.refuse(path+"."+key, "", "is missing", "write islands, period and loss in each row")
			}
		}
		if l.Loss <= 0 {
			b.refuse(path+".loss", number(l.Loss), "is no loss", "write the validation loss in nats")
		}
		e.Losses = append(e.Losses, Loss{Islands: b.islands(path+".islands", l.Islands), Period: b.period(path+".period", l.Period), Loss: l.Loss})
	}
	if len(e.Losses) > 0 && b.err == nil && !e.acceptable() {
		b.refuse("max_loss", number(e.MaxLoss), "is below every loss of the table", "accept a higher one, or rehearse shorter periods")
	}
	return e
}

// acceptable: some row may be chosen.
func (e Exchange) acceptable() bool {
	for _, l := range e.Losses {
		if l.Loss <= e.MaxLoss {
			return true
		}
	}
	return false
}

func (b *builder) islands(path string, n int) int {
	if b.says(path) && (n < 1 || n > maxIslands) {
		b.refuse(path, strconv.Itoa(n), "is no number of islands", fmt.Sprintf("use 1 to %d", maxIslands))
	}
	return n
}

func (b *builder) period(path string, n sheet.Count) int64 {
	if b.says(path) && n < 1 {
		b.refuse(path, n.String(), "is no number of tokens", "write fleet tokens between two merges of a fragment, such as 100M")
	}
	return int64(n)
}

package assess

import (
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

const trillion = 1e12

// price puts the prices of the catalogue beside the speeds. Currencies are not
// converted: nothing here knows a rate.
func (p *Performance) price(own, other chip.Chip) {
	p.Chip.priced(own, currency(own, other))
	p.Reference.priced(other, currency(other, own))
	if p.Chip.Rate == nil || p.Reference.Rate == nil {
		return
	}
	rate := p.Chip.Rate.over(*p.Reference.Rate)
	p.Rate = &rate
	if p.Reference.Price == nil {
		return
	}
	worth := Span{p.Reference.Price.Low * rate.Low, p.Reference.Price.Mid * rate.Mid, p.Reference.Price.High * rate.High}
	p.Worth, p.Currency = &worth, p.Reference.Currency
	if p.Chip.Cost != nil && p.Chip.Currency == p.Reference.Currency {
		cost := p.Chip.Cost.over(*p.Reference.Cost)
		p.Cost = &cost
	}
}

// currency is the one that a chip is priced in: one that both have, or its first.
func currency(own, other chip.Chip) string {
	all := own.Currencies()
	for _, c := range all {
		if slices.Contains(other.Currencies(), c) {
			return c
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return ""
}

// priced takes the range of the offers, and what a trillion tokens cost at them. The
// middle of offers is the middle of their range.
func (s *Side) priced(c chip.Chip, currency string) {
	low, high, ok := chip.Hull(c.Prices(currency)...).Range()
	if !ok {
		return
	}
	s.Price, s.Currency = &Span{low, (low + high) / 2, high}, currency
	if s.Rate == nil {
		return
	}
	hours := s.Rate.under(trillion / 3600) // of a chip
	s.Cost = &Span{low * hours.Low, s.Price.Mid * hours.Mid, high * hours.High}
}

// wholeRuns are the published runs of the chip of which only the bill is known: what
// utilisation they imply, and how far the prediction is off. Nothing is fitted to them.
func (q Question) wholeRuns(own Side) []WholeRun {
	runs := []WholeRun{}
	peak, ok := q.Chip.Of(chip.BF16).Exact()
	for _, r := range q.Runs {
		hours, known := hoursPerTrillion(r, q.Chip)
		if !ok || !known || r.ChipID != q.Chip.Name {
			continue
		}
		active := r.ActiveB.Or(r.ParamsB.Or(0)) * 1e9
		w := WholeRun{ID: r.ID, Model: r.Model, Source: r.Source, Hours: hours, MFU: plan.ImpliedMFU(plan.SixN(active, trillion), hours*3600, peak*1e12)}
		if own.Rate != nil && q.trains(r) {
			gap := trillion/3600/own.Rate.Mid/hours - 1
			w.Gap = &gap
		}
		runs = append(runs, w)
	}
	return runs
}

// trains says that the run is of the model that is asked for: its parameters, all and
// active, are those within what rounding takes.
func (q Question) trains(r published.Run) bool {
	total, active := q.Model.Parameters().Total(), q.Model.Parameters().Active()
	near := func(n int64, billions float64) bool { return math.Abs(float64(n)/1e9-billions) <= 0.02*billions }
	return near(total, r.ParamsB.Or(0)) && near(active, r.ActiveB.Or(r.ParamsB.Or(0)))
}

var tokensOfNotes = regexp.MustCompile(`([0-9]+(?:\.[0-9]+)?)T tokens`)

// hoursPerTrillion is how many hours of a chip a trillion tokens took.
func hoursPerTrillion(r published.Run, c chip.Chip) (float64, bool) {
	if !r.Measured.Known {
		return 0, false
	}
	switch r.Metric {
	case "chip_hours_per_1T":
		return r.Measured.Value, true
	case "chip_hours":
		m := tokensOfNotes.FindStringSubmatch(r.Notes)
		if m == nil {
			return 0, false
		}
		tokens, err := strconv.ParseFloat(m[1], 64)
		return r.Measured.Value / tokens, err == nil && tokens > 0
	case "cost_per_1T_tokens":
		price, ok := chip.Hull(c.Prices("CNY")...).Exact()
		return r.Measured.Value * 1e6 / price, ok && r.Unit == "million RMB"
	}
	return 0, false
}

package fleet

import (
	"github.com/mistura-project/mistura/internal/fault"
)

// Convert is an amount in the plan's currency. Without a dated rate it is refused: a
// *fault.Input that names the rate.
func (f Fleet) Convert(amount float64, currency string) (float64, error) {
	if currency == f.Currency {
		return amount, nil
	}
	for _, r := range f.Rates {
		switch {
		case r.From == currency && r.To == f.Currency:
			return amount * r.Rate, nil
		case r.From == f.Currency && r.To == currency:
			return amount / r.Rate, nil
		}
	}
	return 0, &fault.Input{
		Where: f.File + ": rates", Value: currency + " to " + f.Currency, Problem: "has no rate, and the plan is in " + f.Currency,
		Next: "add {from: " + currency + ", to: " + f.Currency + ", rate: …, date: …}",
	}
}

// ChipHour is what a chip of the pool costs an hour, in the plan's currency. A missing
// price is a *fault.Input that names the pool.
func (f Fleet) ChipHour(p Pool) (float64, error) {
	price, ok := p.Price()
	if !ok {
		return 0, &fault.Input{
			Where: p.where + ".prices", Value: p.Name, Problem: "the pool has no price, and cost is asked for",
			Next: "add {amount: …, currency: …, kind: …, date: …}, for an hour of a chip" + offers(p),
		}
	}
	return f.Convert(price.Amount, price.Currency)
}

// offers says what the catalogue knows of prices.
func offers(p Pool) string {
	text := ""
	for _, currency := range p.Chip.Currencies() {
		for _, offer := range p.Chip.Prices(currency) {
			text += "; " + offer.Source + " has " + offer.Value.String() + " " + offer.Unit + " (" + offer.Date + ")"
		}
	}
	return text
}

package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

// prices reads a pool's offers and which of them is planned with.
func (b *builder) prices(path string, e poolEntry, p *Pool) {
	for i, offer := range e.Prices {
		at := entryPath(path+".prices", i)
		if offer.Kind == "" {
			offer.Kind = string(OnDemand)
		}
		if !slices.Contains(Kinds(), Kind(offer.Kind)) {
			b.refuse(at+".kind", offer.Kind, "is no kind of price", "write on-demand, spot, reserved or owned")
		}
		if slices.ContainsFunc(p.Prices, func(before Price) bool { return before.Kind == Kind(offer.Kind) }) {
			b.refuse(at+".kind", offer.Kind, "has two prices", "keep one")
		}
		price := b.price(at, offer)
		price.Amount *= b.perChip(at+".per", offer.Per, p)
		p.Prices = append(p.Prices, price)
	}
	b.use(path+".use", p)
}

// use settles which kind of price is planned with.
func (b *builder) use(path string, p *Pool) {
	var kinds []string
	for _, offer := range p.Prices {
		kinds = append(kinds, string(offer.Kind))
	}
	switch {
	case p.Use == "" && len(kinds) == 1:
		p.Use = p.Prices[0].Kind
	case p.Use == "" && len(kinds) > 1:
		b.refuse(path, "", "is missing: there are prices of "+strings.Join(kinds, ", "), "write the one to plan with, use: "+kinds[0]+" say")
	case p.Use != "" && !slices.Contains(kinds, string(p.Use)):
		b.refuse(path, string(p.Use), "has no price", "add one of this kind to prices, or leave it out")
	}
}

// perChip is what an amount is multiplied by to be that of a chip for an hour.
func (b *builder) perChip(path, per string, p *Pool) float64 {
	switch per {
	case "", "chip-hour":
		return 1
	case "host-hour":
		if n, ok := p.Chip.Of(chip.NodeChips).Exact(); ok {
			return 1 / n
		}
		b.refuse(path, per, "needs the number of chips in a host, which is not one number of "+p.Chip.Name, "add it to the pool's figures as node_chips, or write the price of a chip")
	default:
		b.refuse(path, per, "is no unit of a price", "write chip-hour or host-hour")
	}
	return 1
}

// onePrice is a price with no kinds; nil when the file has none.
func (b *builder) onePrice(path string, e priceEntry, unit string) *Price {
	if !b.says(path) {
		return nil
	}
	if e.Per != "" && e.Per != unit {
		b.refuse(path+".per", e.Per, "is no unit of this price", "write "+unit+", or leave it out")
	}
	if e.Kind != "" && !slices.Contains(Kinds(), Kind(e.Kind)) {
		b.refuse(path+".kind", e.Kind, "is no kind of price", "write on-demand, spot, reserved or owned")
	}
	p := b.price(path, e)
	return &p
}

func (b *builder) price(path string, e priceEntry) Price {
	p := Price{Currency: e.Currency, Kind: Kind(e.Kind), Source: e.Source}
	b.isCurrency(path+".currency", e.Currency)
	switch {
	case e.Amount == nil:
		b.refuse(path+".amount", "", "is missing", "write a number; a price that is not known is left out with all of its keys")
	case *e.Amount < 0 || *e.Amount == 0 && p.Kind != Owned:
		b.refuse(path+".amount", number(*e.Amount), "is no price", "write a number above 0; 0 is for kind: owned")
	case *e.Amount > mostAmount:
		b.refuse(path+".amount", number(*e.Amount), "is no price", fmt.Sprintf("write at most %g", mostAmount))
	default:
		p.Amount = *e.Amount
	}
	p.Date = b.day(path+".date", e.Date, true)
	return p
}

func (b *builder) isCurrency(path, text string) {
	if !currencyName.MatchString(text) {
		b.refuse(path, text, "is no currency", "write its three letters, such as USD or CNY")
	}
}

func (b *builder) rate(path string, e rateEntry, before []Rate) Rate {
	b.isCurrency(path+".from", e.From)
	b.isCurrency(path+".to", e.To)
	same := func(r Rate) bool { return r.From == e.From && r.To == e.To || r.From == e.To && r.To == e.From }
	switch {
	case e.From == e.To || slices.ContainsFunc(before, same):
		b.refuse(path, e.From+" to "+e.To, "has its rate already", "keep one rate of two currencies")
	case !(e.Rate >= 1/mostAmount && e.Rate <= mostAmount):
		b.refuse(path+".rate", number(e.Rate), "is no rate", fmt.Sprintf("write how many %s one %s is", e.To, e.From))
	}
	return Rate{From: e.From, To: e.To, Rate: e.Rate, Date: b.day(path+".date", e.Date, true)}
}

// currency is that of the plan: what the file says, or that of all its prices.
func (b *builder) currency(said string, f Fleet) string {
	if said != "" {
		b.isCurrency("currency", said)
		return said
	}
	some := f.currencies()
	switch len(some) {
	case 0:
		return ""
	case 1:
		return some[0]
	}
	b.refuse("currency", "", "is missing, and prices are in "+strings.Join(some, " and "), "write the currency of the plan, currency: "+some[0]+" say, and rates")
	return ""
}

// currencies are those of all prices, in the order of the file.
func (f Fleet) currencies() []string {
	var some []string
	add := func(p *Price) {
		if p != nil && !slices.Contains(some, p.Currency) {
			some = append(some, p.Currency)
		}
	}
	for _, p := range f.Pools {
		for i := range p.Prices {
			add(&p.Prices[i])
		}
	}
	for _, h := range []*Hosts{f.Syncers, f.Controllers} {
		if h != nil {
			add(h.Price)
		}
	}
	for _, l := range f.Links {
		add(l.Price)
	}
	return some
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

func asInput(err error, to **fault.Input) bool { return errors.As(err, to) }

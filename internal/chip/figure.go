package chip

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Grade says how good the evidence of a figure is.
type Grade string

// Grades, best first.
const (
	FirstHand Grade = "A" // of the vendor, captured from the device, or of who paid
	Secondary Grade = "B" // somebody else's
	Common    Grade = "C" // general knowledge, not read again for this catalogue
	Assumed   Grade = "D" // said of another chip that this one is taken to be like
	Doubtful  Grade = "U" // unverified, inferred, or sources contradict each other
)

// Grades lists all grades with their meaning, best first.
func Grades() []Grade { return []Grade{FirstHand, Secondary, Common, Assumed, Doubtful} }

// Means is a grade in words.
func (g Grade) Means() string {
	switch g {
	case FirstHand:
		return "first-hand"
	case Secondary:
		return "secondary"
	case Common:
		return "general knowledge"
	case Assumed:
		return "assumed"
	case Doubtful:
		return "doubtful"
	}
	return ""
}

// Worst is the weakest of the grades of what is known; empty when nothing is.
func Worst(figures ...Figure) Grade {
	all, worst := Grades(), -1
	for _, f := range figures {
		worst = max(worst, slices.Index(all, f.Grade))
	}
	if worst < 0 {
		return ""
	}
	return all[worst]
}

// Figure is one thing that is said of a chip. The zero Figure is unknown.
type Figure struct {
	Value
	Unit   string
	Grade  Grade
	Source string
	Date   string // when the source said it, or was read: a year, month or day
	Note   string
}

// Chip is an entry of the catalogue.
type Chip struct {
	Name    string
	figures map[Field][]Figure
}

// Of gives the figure of a field; unknown where there is none. Of a field that may
// have several it is the first.
func (c Chip) Of(f Field) Figure {
	if all := c.figures[f]; len(all) > 0 {
		return all[0]
	}
	return Figure{}
}

// All gives every figure of a field that may have several.
func (c Chip) All(f Field) []Figure { return slices.Clone(c.figures[f]) }

// Prices are the offers in one currency.
func (c Chip) Prices(currency string) []Figure {
	var some []Figure
	for _, p := range c.figures[Price] {
		if p.Known() && p.Unit == currency+"/h" {
			some = append(some, p)
		}
	}
	return some
}

// Offer says how a price is had, where its source does: on-demand, spot or reserved;
// empty: it is not known. It is the first word of the note.
func (f Figure) Offer() string {
	word, _, _ := strings.Cut(f.Note, ",")
	if slices.Contains(Offers(), word) {
		return word
	}
	return ""
}

// Offers are the ways of having a chip by the hour.
func Offers() []string { return []string{"on-demand", "spot", "reserved"} }

// Currencies are those in which there is a price, in the order of the entry.
func (c Chip) Currencies() []string {
	var some []string
	for _, p := range c.figures[Price] {
		if currency, _ := cutHour(p.Unit); p.Known() && !slices.Contains(some, currency) {
			some = append(some, currency)
		}
	}
	return some
}

func cutHour(unit string) (string, bool) {
	currency, _, ok := strings.Cut(unit, "/")
	return currency, ok
}

// Hull is the range from the lowest to the highest number of the figures; unknown
// without any.
func Hull(figures ...Figure) Value {
	var v Value
	for _, f := range figures {
		low, high, ok := f.Range()
		if !ok {
			continue
		}
		if len(v.numbers) == 0 {
			v.numbers = []float64{low, high}
		}
		v.numbers[0], v.numbers[1] = min(v.numbers[0], low), max(v.numbers[1], high)
	}
	v.spread = len(v.numbers) == 2 && v.numbers[0] < v.numbers[1]
	if len(v.numbers) == 2 && !v.spread {
		v.numbers = v.numbers[:1]
	}
	return v
}

var chipName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// isDate: a year, a month or a day that there is.
func isDate(s string) bool {
	const day = "2006-01-02"
	for _, layout := range []string{day, day[:7], day[:4]} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Year() >= 1970
		}
	}
	return false
}

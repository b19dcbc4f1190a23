package chip

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Entry is a chip with these figures; what is not among them is unknown.
func Entry(name string, figures map[Field]Figure) Chip {
	c := Chip{Name: name, figures: map[Field][]Figure{}}
	for field, f := range figures {
		c.figures[field] = []Figure{f}
	}
	return c
}

// CatalogueOf is a catalogue of these chips.
func CatalogueOf(date string, chips ...Chip) Catalogue {
	return Catalogue{Date: date, chips: slices.Clone(chips)}
}

// Words is a value that is text.
func Words(text string) Value { return Value{text: text} }

// One gives a single number: of a range the middle, of variants the first; how says so.
func (v Value) One() (x float64, how string, ok bool) {
	low, high, ok := v.Range()
	switch {
	case !ok || low == high:
		return low, "", ok
	case v.spread:
		x = low/2 + high/2
		return x, fmt.Sprintf("%v is the middle of %v", x, v), true
	}
	return low, fmt.Sprintf("%v is the first of %v", low, v), true
}

// CheckName refuses what is no name of a chip: the problem and what to write, or nothing.
func CheckName(name string) (problem, next string) {
	if chipName.MatchString(name) {
		return "", ""
	}
	return "is no name of a chip", "write lower-case letters, digits and hyphens, such as h800-80g-sxm"
}

// NameFor makes a name of a chip out of what a device calls itself; empty where nothing
// of that can stand in one.
func NameFor(device string) string {
	words := strings.FieldsFunc(strings.ToLower(device), func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9') })
	name := strings.Join(words, "-")
	return strings.TrimRight(name[:min(len(name), 40)], "-")
}

// Called finds the chip whose name or title a device calls itself by, whoever makes it.
// Devices that are several chips of the catalogue, by memory or power, are none of them.
func (c Catalogue) Called(device string) (Chip, bool) {
	word := plain(device)
	i := slices.IndexFunc(c.chips, func(x Chip) bool { return word != "" && (word == plain(x.Name) || word == plain(x.Of(Title).Text())) })
	if i < 0 {
		return Chip{}, false
	}
	return c.chips[i], true
}

// plain leaves of a name what tells chips apart: no makers, no families, no gaps.
func plain(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	words = slices.DeleteFunc(words, func(w string) bool {
		return slices.Contains([]string{"nvidia", "geforce", "amd", "instinct", "huawei", "intel"}, w)
	})
	return strings.Join(words, "")
}

package anatomy

import (
	"strconv"
	"strings"
)

// factor is a number with its meaning.
type factor struct {
	n  int
	of string
}

func x(n int, of string) factor { return factor{n, of} }

func (f factor) String() string {
	if f.of == "" {
		return strconv.Itoa(f.n)
	}
	return strconv.Itoa(f.n) + " " + f.of
}

// term is a number with the formula that it comes from.
type term struct {
	n    int64
	text string
	sum  bool // the text is a sum
}

// product multiplies.
func product(factors ...factor) term {
	t := term{n: 1}
	var words []string
	for _, f := range factors {
		t.n *= int64(f.n)
		words = append(words, f.String())
	}
	t.text = strings.Join(words, " × ")
	return t
}

// total adds, and leaves out what is nothing.
func total(terms ...term) term {
	var t term
	var words []string
	for _, u := range terms {
		if u.n != 0 {
			t.n += u.n
			t.sum = t.sum || u.sum || len(words) > 0
			words = append(words, u.text)
		}
	}
	t.text = strings.Join(words, " + ")
	return t
}

// times multiplies by a number that stands in front.
func (t term) times(f factor) term {
	text := t.text
	if t.sum {
		text = "(" + text + ")"
	}
	return term{n: int64(f.n) * t.n, text: f.String() + " × " + text}
}

// when is the term if something holds.
func (t term) when(holds bool) term {
	if !holds {
		return term{}
	}
	return t
}

package dash

import (
	"strings"
	"unicode/utf8"
)

// style is an SGR sequence of a terminal, empty for plain text.
type style string

// The styles in use; all of them read on dark and on light ground.
const (
	normal  style = ""
	strong  style = "\x1b[1m"
	faint   style = "\x1b[2m"
	good    style = "\x1b[32m"
	warning style = "\x1b[33m"
)

const reset = "\x1b[0m"

// row is one line of the block: fields from the most to the least important.
type row struct {
	text  strings.Builder
	used  int // columns
	width int
	color bool
	full  bool
}

func newRow(width int, color bool) *row { return &row{width: width, color: color} }

// add appends a field if it fits and nothing was left out before it. The first
// field is cut where the line ends.
func (r *row) add(s style, text string) *row {
	if r.used > 0 {
		return r.put(2, s, text)
	}
	return r.put(0, s, text)
}

// attach is add without the gap.
func (r *row) attach(s style, text string) *row { return r.put(0, s, text) }

func (r *row) put(gap int, s style, text string) *row {
	if r.full || text == "" {
		return r
	}
	n := utf8.RuneCountInString(text)
	if r.used+gap+n > r.width {
		r.full = true
		if r.used > 0 {
			return r
		}
		text = string([]rune(text)[:max(r.width, 0)])
		n = r.width
	}
	r.text.WriteString(strings.Repeat(" ", gap))
	if r.color && s != normal {
		text = string(s) + text + reset
	}
	r.text.WriteString(text)
	r.used += gap + n
	return r
}

func (r *row) String() string { return r.text.String() }

// pad fills text with blanks on the right to a width in columns.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// bar draws a share from 0 to 1 over so many columns.
func bar(share float64, columns int) (done, rest string) {
	n := min(max(int(share*float64(columns)), 0), columns)
	return strings.Repeat("█", n), strings.Repeat("░", columns-n)
}

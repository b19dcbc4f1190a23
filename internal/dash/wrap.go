package dash

import (
	"strings"
	"unicode/utf8"
)

// leastRoom is how much must be left beside the indent for words to be kept whole.
const leastRoom = 30

// Wrap breaks a line at blanks, with the rest indented. A line that holds a command is
// left to the terminal, which lets it be copied as one; so is one with a word that fits no line.
func Wrap(text string, columns, indent int) string {
	if utf8.RuneCountInString(text) <= columns || columns-indent < leastRoom || strings.Contains(text, "mistura ") {
		return text
	}
	var out strings.Builder
	used := 0
	for n, word := range strings.Split(text, " ") {
		width := utf8.RuneCountInString(word)
		switch {
		case width > columns-indent:
			return text
		case n == 0:
		case used+1+width > columns:
			out.WriteString("\n" + strings.Repeat(" ", indent))
			used = indent
		default:
			out.WriteByte(' ')
			used++
		}
		out.WriteString(word)
		used += width
	}
	return out.String()
}

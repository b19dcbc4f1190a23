package fault

import (
	"encoding/csv"
	"fmt"
	"strings"
	"unicode"
)

// Clip is the beginning of a text that somebody wrote, at most 80 characters, each of which can be shown: a Value.
func Clip(s string) string {
	const most = 80
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// NotSeparated is bad input in a file of comma-separated values.
func NotSeparated(name string, p *csv.ParseError) *Input {
	return &Input{
		Where: fmt.Sprintf("%s:%d", name, p.Line), Problem: "is no line of comma-separated values: " + p.Err.Error(),
		Next: `write a cell with commas or quotes as "…", quotes in it twice`,
	}
}

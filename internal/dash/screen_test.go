package dash

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// screen is as much of a terminal as a Dash makes use of.
type screen struct {
	lines  []string
	row    int
	widest int
}

var control = regexp.MustCompile(`\x1b\[(\d*)([A-Za-z])`)

func (s *screen) Write(text []byte) (int, error) {
	rest := string(text)
	for rest != "" {
		if m := control.FindStringSubmatchIndex(rest); m != nil && m[0] == 0 {
			s.control(rest[m[2]:m[3]], rest[m[4]:m[5]])
			rest = rest[m[1]:]
			continue
		}
		r := []rune(rest)[0]
		rest = rest[len(string(r)):]
		s.rune(r)
	}
	return len(text), nil
}

func (s *screen) control(number, letter string) {
	switch letter {
	case "A":
		n := 0
		fmt.Sscan(number, &n)
		s.row -= n
		if s.row < 0 {
			panic("cursor above the first line")
		}
	case "J":
		s.lines = s.lines[:min(s.row, len(s.lines))]
	case "m":
	default:
		panic("control sequence " + letter)
	}
}

func (s *screen) rune(r rune) {
	switch {
	case r == '\n':
		s.row++
	case r == '\r':
	case r < ' ' || r == 0x7f:
		panic(fmt.Sprintf("control character %q", r))
	default:
		for len(s.lines) <= s.row {
			s.lines = append(s.lines, "")
		}
		s.lines[s.row] += string(r)
		s.widest = max(s.widest, len([]rune(s.lines[s.row])))
	}
}

func (s *screen) String() string { return strings.Join(s.lines, "\n") + "\n" }

func TestScreen(t *testing.T) {
	s := &screen{}
	fmt.Fprint(s, "one\ntwo\n\x1b[1A\r\x1b[J\x1b[32mthree\x1b[0m\n")
	if s.String() != "one\nthree\n" {
		t.Errorf("%q", s)
	}
}

package dash

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/ledger"
)

// No line is wider than the screen, none could have taken the next word, and together they are the text.
func TestWrappedLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([a-zé]{0,30} ){0,20}[a-zé]{1,30}`).Draw(t, "text")
		columns, indent := rapid.IntRange(40, 120).Draw(t, "columns"), rapid.IntRange(0, 9).Draw(t, "indent")
		lines := strings.Split(Wrap(text, columns, indent), "\n")
		for i, line := range lines {
			if n := utf8.RuneCountInString(line); n > columns {
				t.Fatalf("%d columns on %d: %q", n, columns, line)
			}
			if i == 0 {
				continue
			}
			if !strings.HasPrefix(line, strings.Repeat(" ", indent)) {
				t.Fatalf("%q is not indented by %d", line, indent)
			}
			lines[i] = line[indent:]
			next, _, _ := strings.Cut(lines[i], " ")
			before := utf8.RuneCountInString(lines[i-1])
			if i > 1 {
				before += indent
			}
			if before+1+utf8.RuneCountInString(next) <= columns {
				t.Fatalf("%q would have fitted behind %q", next, lines[i-1])
			}
		}
		if whole := strings.Join(lines, " "); whole != text {
			t.Fatalf("%q became %q", text, whole)
		}
	})
}

// What is to be copied stays one line, and so does what no line can hold.
func TestWhatIsNotWrapped(t *testing.T) {
	for _, text := range []string{
		"island far is not started here; on its own host: mistura join --name far --engine torch --device npu",
		"MISTURA_JOIN='" + strings.Repeat("x", 60) + "' mistura join",
		"one two three " + strings.Repeat("y", 80) + " four",
	} {
		if got := Wrap(text, 80, 9); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// On a terminal words stay whole, under the words before them; elsewhere a line is a line.
func TestLongLinesOnTheScreen(t *testing.T) {
	note := ledger.Note{At: at(42), Text: strings.TrimSpace(strings.Repeat("held-out tokens, ", 9))}
	whole := regexp.MustCompile(`(?m)^.{9}(held-out tokens, ?)+(\n {9}.+)*`)
	s := live(80, 24, append(history(), note))
	if got := whole.FindString(s.String()); strings.Count(got, "\n") < 2 || strings.Join(strings.Fields(got), " ") != "42s "+note.Text {
		t.Errorf("shown:\n%s", s)
	}
	var plain strings.Builder
	d := New(&plain, Options{})
	d.Show(note)
	if !strings.HasSuffix(plain.String(), "  "+note.Text+"\n") || strings.Count(plain.String(), "\n") != 1 {
		t.Errorf("%q", plain.String())
	}
}

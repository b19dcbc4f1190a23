package cli

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
)

// Names in files that somebody else made come into messages. They neither break the
// line, nor steer the terminal, nor bury what to do.
func TestAnErrorIsOneLineWhateverIsInIt(t *testing.T) {
	for what, hostile := range map[string]string{
		"lines":   "a\nb\r\nc\u2028d",
		"escapes": "\x1b[2J\x1b]0;title\a\x9b31m",
		"bidi":    "\u202egnp.exe\u2066",
		"no text": "\xff\xfe",
		"long":    strings.Repeat("tensor, ", 1_000_000),
		"wide":    strings.Repeat("é", 1_000_000),
	} {
		var stderr strings.Builder
		env := &Env{Stderr: &stderr, Stdout: &stderr}
		env.conclude(&cobra.Command{}, fmt.Errorf("weights: %s; fetch the file again", hostile))
		line, ended := strings.CutSuffix(stderr.String(), "\n")
		if !ended || strings.IndexFunc(line, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) >= 0 {
			t.Errorf("%s: %.200q", what, line)
		}
		if len(line) > 5000 || !strings.HasPrefix(line, "mistura: weights: ") || !strings.HasSuffix(line, "; fetch the file again") {
			t.Errorf("%s: %d bytes, %.200q", what, len(line), line)
		}
	}
}

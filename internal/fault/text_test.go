package fault

import (
	"strings"
	"testing"
)

func TestClip(t *testing.T) {
	for s, want := range map[string]string{
		"":                      "",
		"a\tb\x1b[31m\xff":      "a\ufffdb\ufffd[31m\ufffd",
		strings.Repeat("é", 80): strings.Repeat("é", 80),
		strings.Repeat("é", 81): strings.Repeat("é", 80) + "…",
	} {
		if got := Clip(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

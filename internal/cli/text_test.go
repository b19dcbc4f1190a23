package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTextWriter(t *testing.T) {
	for in, want := range map[string]string{
		"plain\n\ttext":      "plain\n\ttext",
		"é 語 𝄞":              "é 語 𝄞",
		"\x1b[2J\r\a":        "\ufffd[2J\ufffd\ufffd",
		"\u009b31m":          "\ufffd31m",
		"\xe8\xaa":           "\ufffd\ufffd",
		"\xe8A":              "\ufffdA",
		"\xe8\xe8\xaa\x9e":   "\ufffd語",
		"a\x80b\xf0\x9f\x98": "a\ufffdb\ufffd\ufffd\ufffd",
	} {
		var out bytes.Buffer
		w := &textWriter{w: &out}
		for i := range len(in) {
			if err := w.put(in[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil || out.String() != want || w.all.String() != want {
			t.Errorf("%q: wrote %q, want %q (%v)", in, &out, want, err)
		}
	}
}

// Valid text without control characters comes out as it is, each character as soon
// as its last byte is there; whatever the bytes, the output is valid.
func TestTextWriterIsPrompt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~é語𝄞]*`).Draw(t, "text")
		var out bytes.Buffer
		w := &textWriter{w: &out}
		for i := range len(text) {
			if err := w.put(text[i]); err != nil {
				t.Fatal(err)
			}
			if utf8.ValidString(text[:i+1]) && out.String() != text[:i+1] {
				t.Fatalf("after %q only %q is written", text[:i+1], &out)
			}
		}
		noise := rapid.SliceOf(rapid.Byte()).Draw(t, "noise")
		for _, b := range noise {
			if err := w.put(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil || !utf8.Valid(out.Bytes()) || strings.ContainsAny(out.String(), "\x1b\r\x00") {
			t.Fatalf("%q, %v", &out, err)
		}
	})
}

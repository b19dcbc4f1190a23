package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// textWriter writes bytes that a model has drawn as text: whole characters, as soon
// as they are whole. What is no UTF-8, and control characters that would steer a
// terminal, come out as U+FFFD.
type textWriter struct {
	w    io.Writer
	all  strings.Builder // everything written
	part []byte          // beginning of a character
}

func (t *textWriter) put(b byte) error {
	t.part = append(t.part, b)
	if !utf8.FullRune(t.part) {
		return nil
	}
	return t.write()
}

// flush writes what is left of a character that was cut off.
func (t *textWriter) flush() error {
	if len(t.part) == 0 {
		return nil
	}
	return t.write()
}

// write writes the characters in part. A byte that makes the ones before it invalid
// may begin a character itself.
func (t *textWriter) write() error {
	for len(t.part) > 0 {
		r, n := utf8.DecodeRune(t.part)
		t.part = t.part[n:]
		if (r < ' ' && r != '\n' && r != '\t') || (r >= 0x7f && r < 0xa0) {
			r = utf8.RuneError
		}
		t.all.WriteRune(r)
		if _, err := io.WriteString(t.w, string(r)); err != nil {
			return err
		}
		if len(t.part) > 0 && !utf8.FullRune(t.part) {
			return nil
		}
	}
	return nil
}

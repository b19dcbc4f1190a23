package mistura_test

import (
	"path"
	"strings"
	"testing"
)

// Every package has a doc.go that says what it is, how to enter it and what it
// must not do; a program may say so in its main.go. No other file has a package
// comment beside it.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := make(map[string]int)
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		documented[s.pkg] += 0
		comment, begin, place := s.file.Doc.Text(), "Package "+s.file.Name.Name+" ", path.Base(s.path) == "doc.go"
		if s.file.Name.Name == "main" {
			begin = "Command " + path.Base(s.pkg) + " "
			place = place || path.Base(s.path) == "main.go"
		}
		switch {
		case comment == "" || s.generated:
		case !place:
			t.Errorf("%s: package comment; it belongs into doc.go", s.path)
		case !strings.HasPrefix(comment, begin):
			t.Errorf("%s: the comment above the package clause must begin with %q", s.path, begin)
		default:
			documented[s.pkg]++
		}
	}
	for pkg, n := range documented {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one in doc.go", pkg, n)
		}
	}
}

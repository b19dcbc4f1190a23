package mistura_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
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

// A map that names files which have moved leads astray: those that ARCHITECTURE.md, the decisions
// and the doc.go of a package name are there.
func TestFilesThatAreNamedExist(t *testing.T) {
	name := regexp.MustCompile(`[\w./-]*\w\.(?:go|py)\b`)
	there := make(map[string]bool) // every path, and what is left of it without leading folders
	var scripts []string
	for _, pattern := range []string{"python/*/*.py", "python/*/*/*.py"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, found...)
	}
	for _, s := range sources(t) {
		scripts = append(scripts, s.path)
		if path.Base(s.path) != "doc.go" {
			continue
		}
		for _, named := range name.FindAllString(s.file.Doc.Text(), -1) {
			if _, err := os.Stat(filepath.Join(s.pkg, named)); err != nil {
				t.Errorf("%s names %s, which is not there", s.path, named)
			}
		}
	}
	for _, p := range scripts {
		for rest, more := filepath.ToSlash(p), true; more; _, rest, more = strings.Cut(rest, "/") {
			there[rest] = true
		}
	}
	pages, err := filepath.Glob("docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "ARCHITECTURE.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, named := range name.FindAllString(string(text), -1) {
			if !there[named] {
				t.Errorf("%s names %s, which is not there", page, named)
			}
		}
	}
}

package mistura_test

import (
	"fmt"
	"go/ast"
	"testing"
)

// Limits of what a reader takes in at once. Aim far below.
const (
	maxFileLines     = 800
	maxFunctionLines = 100
)

// oversize lists what may exceed the limits, with the reason: "path" for a file,
// "path: name" for a function. Generated files are exempt.
func oversize() map[string]string {
	return map[string]string{}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	listed := oversize()
	found := make(map[string]bool)
	check := func(what string, lines, most int) {
		if lines <= most {
			return
		}
		found[what] = true
		if listed[what] == "" {
			t.Errorf("%s: %d lines, at most %d; split it, or list it in oversize() with the reason", what, lines, most)
		}
	}
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		check(s.path, s.lines, maxFileLines)
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				lines := s.fset.Position(f.End()).Line - s.line(f) + 1
				check(fmt.Sprintf("%s: %s", s.path, f.Name.Name), lines, maxFunctionLines)
			}
		}
	}
	for what := range listed {
		if !found[what] {
			t.Errorf("oversize() lists %q, which is within the limits now", what)
		}
	}
}

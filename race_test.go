package mistura_test

import (
	"go/ast"
	"os"
	"regexp"
	"testing"
)

// The tests of package serve that run under the race detector are named in the Makefile: go test
// says nothing of a name that no test has any more.
func TestRunsUnderTheRaceDetectorAreThere(t *testing.T) {
	text, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\bTest\w+`).FindAllString(string(text), -1)
	if len(named) == 0 {
		t.Fatal("the Makefile names no test")
	}
	there := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test && s.pkg == "internal/serve" {
				there[f.Name.Name] = true
			}
		}
	}
	for _, name := range named {
		if !there[name] {
			t.Errorf("Makefile: internal/serve has no %s", name)
		}
	}
}

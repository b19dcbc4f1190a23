package mistura_test

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const dependenciesPage = "docs/dependencies.md"

var rewrite = flag.Bool("rewrite", false, "write the list of all modules in "+dependenciesPage+" anew")

// Every module that our code imports has a line with its reason, and no other.
func TestEveryDependencyHasAReason(t *testing.T) {
	reasons := make(map[string]string)
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|[^|]*\\| ([^|]+) \\|")
	for _, m := range row.FindAllStringSubmatch(readPage(t), -1) {
		reasons[m[1]] = m[2]
	}
	used := directModules(t)
	for _, module := range used {
		if strings.TrimSpace(reasons[module]) == "" {
			t.Errorf("%s is used without a line in %s", module, dependenciesPage)
		}
	}
	for module := range reasons {
		if !slices.Contains(used, module) {
			t.Errorf("%s gives a reason for %s, which nothing imports", dependenciesPage, module)
		}
	}
}

// What comes along with them is known: a change of the list is seen in review.
func TestAllModulesAreListed(t *testing.T) {
	const begin, end = "<!-- go list -m all -->\n```text\n", "```\n"
	page := readPage(t)
	before, rest, ok := strings.Cut(page, begin)
	listed, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no list of modules between %q and %q", dependenciesPage, begin, end)
	}
	now := strings.Join(modules(t), "\n") + "\n"
	if now == listed {
		return
	}
	if *rewrite {
		if err := os.WriteFile(dependenciesPage, []byte(before+begin+now+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the modules are not those in %s; see which grew and why, then: go test -run AllModules . -rewrite\n%s", dependenciesPage, now)
}

func readPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(dependenciesPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// modules is the build list without this module, "path version" each.
func modules(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "all").Output()
	if err != nil {
		t.Fatalf("go list -m all: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[1:]
}

// directModules finds the modules of all imports in this repository, tests and
// the generator's own module included.
func directModules(t *testing.T) []string {
	t.Helper()
	paths := []string{"github.com/mmcloughlin/avo"} // of gen/go.mod, which is no part of the build list
	for _, m := range modules(t) {
		path, _, _ := strings.Cut(m, " ")
		paths = append(paths, path)
	}
	used := make(map[string]bool)
	for _, s := range sources(t) {
		for _, imported := range s.imports() {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(imported, modulePath) {
				continue // the standard library and our own
			}
			if m := longestPrefix(paths, imported); m != "" {
				used[m] = true
			} else {
				t.Errorf("%s: no module provides %s", s.path, imported)
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// longestPrefix is the module path that an import path belongs to, or "".
func longestPrefix(modulePaths []string, imported string) string {
	best := ""
	for _, p := range modulePaths {
		if (imported == p || strings.HasPrefix(imported, p+"/")) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

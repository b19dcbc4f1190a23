package mistura_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// pure are the packages that decide or compute and touch nothing else.
func pure() []string {
	return []string{
		"internal/anatomy", "internal/audit", "internal/chip", "internal/coord", "internal/syncer", "internal/ledger", "internal/outer", "internal/model", "internal/published",
		"internal/fleet", "internal/plan", "internal/plan/assess", "internal/plan/fit", "internal/plan/search", "internal/plan/validate",
		"internal/fragment", "internal/gate", "internal/rng", "internal/spike", "internal/wire", "internal/fault", "internal/engine/numeric",
	}
}

// effects are the imports that pure packages may not have, with the reason. A
// trailing slash stands for all packages below.
func effects() map[string]string {
	const replay = "a decision must come out the same when it is replayed from the tape"
	return map[string]string{
		"net":          "messages come in as input and go out as effects: the simulator has no sockets",
		"net/http/":    "messages come in as input and go out as effects: the simulator has no sockets",
		"os":           "files and the environment are read at the edge: " + replay,
		"os/":          "processes and signals are effects",
		"syscall":      "the operating system is for effect packages",
		"io/fs":        "files are read at the edge: " + replay,
		"log":          "a decision returns its reason, which is recorded; logging it is for the caller",
		"log/":         "a decision returns its reason, which is recorded; logging it is for the caller",
		"math/rand":    "random draws come from rng by (seed, purpose, index): " + replay,
		"math/rand/":   "random draws come from rng by (seed, purpose, index): " + replay,
		"crypto/rand":  "a random draw is input: " + replay,
		"sync":         "state is handed in and out; who owns it locks it",
		"runtime":      "nothing may depend on this machine: " + replay,
		"os/signal":    "signals are for the program",
		"database/sql": "state is handed in and out",
	}
}

// clocks are the functions of package time that read or wait for a clock.
func clocks() []string {
	return []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
}

func TestPurePackagesHaveNoEffects(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.generated || !slices.Contains(pure(), s.pkg) {
			continue
		}
		for _, imported := range s.imports() {
			for banned, reason := range effects() {
				below, folder := strings.CutSuffix(banned, "/")
				if imported == banned || folder && strings.HasPrefix(imported, below+"/") {
					t.Errorf("%s: %s may not import %s: %s", s.path, s.pkg, imported, reason)
				}
			}
		}
		for _, call := range selections(s.file, "time") {
			if slices.Contains(clocks(), call.Sel.Name) {
				t.Errorf("%s:%d: %s may not call time.%s: now is an input, so that a simulator can have its own", s.path, s.line(call), s.pkg, call.Sel.Name)
			}
		}
	}
}

// Only a program ends its process: a package that does so cannot be tested or
// run beside others, and skips what its callers have to clean up.
func TestOnlyProgramsExit(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, call := range selections(s.file, "os") {
			if call.Sel.Name == "Exit" {
				t.Errorf("%s:%d: only package main calls os.Exit; return an error", s.path, s.line(call))
			}
		}
		for _, call := range selections(s.file, "log") {
			if strings.HasPrefix(call.Sel.Name, "Fatal") {
				t.Errorf("%s:%d: only package main ends the process; return an error", s.path, s.line(call))
			}
		}
	}
}

// Randomness that is not counted from the run's seed cannot be repeated (D1 of
// the design): only rng draws. Secrets and nonces come from crypto/rand.
func TestNoOtherRandomSource(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports() {
			if !s.test && strings.HasPrefix(imported, "math/rand") {
				t.Errorf("%s: imports %s; draw from internal/rng", s.path, imported)
			}
		}
	}
}

// Nothing happens before main: implementations are listed where they are used.
func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Name.Name == "init" && !s.generated {
				t.Errorf("%s:%d: func init; list implementations in one function instead", s.path, s.line(f))
			}
		}
	}
}

// selections finds every x.Name in a file where x is the given package name.
func selections(file *ast.File, pkg string) []*ast.SelectorExpr {
	var found []*ast.SelectorExpr
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
				found = append(found, sel)
			}
		}
		return true
	})
	return found
}

package oracle

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
)

// TestTable makes the table of docs/engine.md from what the other tests check, and
// writes it where -table says so.
func TestTable(t *testing.T) {
	o := ask(t)
	versions, err := command(t, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s; oracle: %s\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.TrimSpace(string(versions)))
	fmt.Fprintln(&b, "| configuration | computed by | losses | gradients | trace to 50 | trace to the end | end loss | spread | otherwise |")
	fmt.Fprintln(&b, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, a := range o.right {
		for _, name := range append([]string{twin}, kernel.Available()...) {
			m, err := a.measure(name)
			if err != nil {
				t.Fatal(err)
			}
			_, losses := m.losses.worst()
			_, gradients := m.gradients.worst()
			_, short := m.short.worst()
			_, whole := m.whole.worst()
			fmt.Fprintf(&b, "| %s | %s | %.1e | %.1e | %.1e | %.1e | %.1e | %.1e | %.2g / %.2g |\n", a.name, name,
				losses, gradients, short, whole, m.gap, m.spread, m.otherwise, m.traceOtherwise)
		}
	}
	if *tableFile == "" {
		return
	}
	if err := os.WriteFile(*tableFile, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

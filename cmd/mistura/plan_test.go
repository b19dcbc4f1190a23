package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
)

// planned: the run file that a plan is written to trains as it is.
func planned(t *testing.T, bin string) {
	dir := t.TempDir()
	fleet, err := filepath.Abs("../../internal/cli/testdata/plan/cpu.yaml")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "text.txt"), []byte(strings.Repeat("Two islands trained one model, and neither waited for the other.\n\n", 400)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, bin, dir, "plan", "--model", "ling-tiny", "--tokens", "20k", "--batch", "8", "--sequence", "128", "--fleet", fleet, "--out", "run.yaml")
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.shown())
	}
	p = start(t, bin, dir, "train", "run.yaml", "--data", "text.txt", "--out", "run", "--json")
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.shown())
	}
	sum := p.summary()
	if sum.Outcome != ledger.RunFinished || sum.Tokens < 20_000 || len(sum.Islands) != 2 || sum.Islands[0].Name != "box-1" || sum.Merges == 0 {
		t.Errorf("the run is not the planned one: %+v", sum)
	}
	audited(t, filepath.Join(dir, "run"))
}

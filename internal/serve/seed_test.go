package serve

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
)

// Who looks at a run that has no weights yet sees what it waits for, and is not told of an error;
// the join string is shown once, before them and not again.
func TestARunThatHasNotBegun(t *testing.T) {
	run := ownRun(t, "tokens: 9k\nmodel: {from: seed}\ndata: {own: true}\nislands: [{name: one, engine: external, seed: true}]")
	op := &opened{run: run, runID: "4f1d", era: 1, outside: true, address: "127.0.0.1:7070"}
	s := &seeding{op: op, dir: "runs/far-1", island: "one"}
	text, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var f ledger.Fleet
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	if _, known := f.Loss.Get(); known || f.RunID != "4f1d" || f.Dir != "runs/far-1" || f.GoalTokens < 9000 || !f.OwnData || !strings.HasSuffix(f.Waiting, "first weights from island one") {
		t.Errorf("%s", text)
	}
	op.shown = true
	op.tellJoins(func(e ledger.Event) { t.Errorf("said again: %v", e) })
}

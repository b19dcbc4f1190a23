package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
)

// The status says of every island what was decided at the gate, and why where that is not what
// anybody expects, once.
func TestStatusShowsTheGate(t *testing.T) {
	off := "the gradient of tensor x is off"
	f := ledger.Fleet{Islands: []ledger.Member{
		{Name: "own", State: ledger.Training, Engine: "native", Gate: ledger.LetIn, GateReason: "the same program"},
		{Name: "good", State: ledger.Training, Engine: "torch", Gate: "passed", GateReason: "computes the same model"},
		{Name: "blind", State: ledger.Training, Engine: "torch", Host: "10.0.0.9:5", Gate: ledger.LetIn, GateReason: "no probe"},
		{Name: "wrong", State: ledger.Away, Engine: "torch", Gate: ledger.TurnedBack, GateReason: off, Reason: off + "; refused 3 times"},
		{Name: "again", State: ledger.Starting, Engine: "torch", Gate: ledger.Pending, GateReason: off},
		{Name: "nobody", State: ledger.Awaited},
	}}
	var out bytes.Buffer
	if err := writeFleet(&out, f); err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, line := range strings.Split(out.String(), "\n") {
		name, rest, _ := strings.Cut(line, " ")
		lines[name] = strings.Join(strings.Fields(rest), " ")
	}
	for name, want := range map[string][2]string{
		"own": {"training skipped", " -"}, "good": {"training passed", " -"}, "blind": {"training skipped", "not compared: no probe"},
		"wrong": {"away refused", " - " + off + "; refused 3 times"}, "again": {"starting pending", "refused at the gate before: " + off}, "nobody": {"awaited -", " -"},
	} {
		if got := lines[name]; !strings.Contains(got, want[0]) || !strings.HasSuffix(got, want[1]) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

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

// C11 and S2 in the status: how far the fragments are, who is slow and why, and that nobody
// tracks samples which islands bring themselves.
func TestStatusShowsVersionsAndWhoIsSlow(t *testing.T) {
	f := ledger.Fleet{Merges: 5, Versions: []uint64{3, 2, 4}, OwnData: true, Islands: []ledger.Member{
		{Name: "calm", State: ledger.Training, Kind: "external npu fp32", BusySeconds: ledger.Known(1), Ratio: ledger.Known(1)},
		{
			Name: "late", State: ledger.Training, Kind: "external npu fp32", BusySeconds: ledger.Known(1.6), Ratio: ledger.Known(1.6), Straggler: true,
			Why: "slow: a step takes it 1.6 s, 1.60 times the 1 s of its kind for as many tokens",
		},
	}}
	show := func() string {
		var out bytes.Buffer
		if err := writeFleet(&out, f); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.FieldsFunc(out.String(), func(r rune) bool { return r == ' ' }), " ")
	}
	for _, want := range []string{
		", 5 merges, 3 fragments at version 2 to 4\n", "\nsamples: not tracked (S2): islands bring their own data\n",
		" 1.600 1.60 - slow: a step takes it 1.6 s, 1.60 times the 1 s of its kind for as many tokens\n", " 1.000 1.00 - \n",
	} {
		if got := show(); !strings.Contains(got, want) {
			t.Errorf("nothing says %q in\n%s", want, got)
		}
	}
	f.Versions, f.OwnData = nil, false
	if got := show(); !strings.Contains(got, ", 5 merges\n") || strings.Contains(got, "samples") {
		t.Errorf("what is not known is said:\n%s", got)
	}
}

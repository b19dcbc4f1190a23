package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/transport"
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
	lines := map[string]string{}
	for _, line := range strings.Split(showFleet(f, 0), "\n") {
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
		return strings.Join(strings.FieldsFunc(showFleet(f, 0), func(r rune) bool { return r == ' ' }), " ")
	}
	for _, want := range []string{
		", 5 merges, 3 fragments at version 2 to 4\n", "\nsamples: not tracked (S2): islands bring their own data\n",
		" 1.600 1.60 - slow: a step takes it 1.6 s, 1.60 times the 1 s of its kind for as many tokens\n", " 1.000 1.00 -\n",
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

// On a screen that the table does not fit on, numbers stay in columns and words come below them;
// whatever an island says of itself, it steers no terminal.
func TestStatusOnANarrowScreen(t *testing.T) {
	f := ledger.Fleet{RunID: "59b2eec5731f", Era: 2, Seconds: 65, Tokens: 27_800, GoalTokens: 150_000, Merges: 18, Versions: []uint64{5, 5}, Islands: []ledger.Member{
		{Name: "one", Incarnation: 2, State: ledger.Training, Engine: "external", Kind: "external npu \x1b[2JAscend910B2 fp32", Host: "10.77.5.1:43002", Gate: ledger.LetIn, GateReason: "its trainer has no probe", Tokens: 14_300, BusySeconds: ledger.Known(0.027), Ratio: ledger.Known(1.11)},
		{Name: "two", State: ledger.Awaited},
	}}
	want := `run 59b2eec5731f, era 2, 1m05s: 27.8k of 150k tokens, - tokens/s, loss -,
  validation loss -, 18 merges, 2 fragments at version 5
island  life  state     tokens  tokens/s  busy s/step  of its kind  loss
one     2     training  14.3k   -         0.027        1.11         -
    external npu \ufffd[2JAscend910B2 fp32; from 10.77.5.1:43002; gate skipped; not
    compared: its trainer has no probe
two     0     awaited   0       -         -            -            -
`
	if got := showFleet(f, 80); got != strings.ReplaceAll(want, `\ufffd`, "\ufffd") {
		t.Errorf("shown:\n%s", got)
	}
	whole := strings.Split(strings.TrimSpace(showFleet(f, 200)), "\n")
	if len(whole) != 4 || !strings.Contains(whole[2], "Ascend910B2 fp32  10.77.5.1:43002  14.3k") || strings.Contains(showFleet(f, 200), "\x1b") {
		t.Errorf("shown:\n%s", strings.Join(whole, "\n"))
	}
}

// A join string that is good no more is bad input, and what the coordinator says of it is said once.
func TestStatusByAnExpiredJoinString(t *testing.T) {
	err := notShown(fmt.Errorf("status: %w: its token expired", transport.ErrRefused))
	if exitCode(err) != exitInput || err.Error() != "status: refused by the coordinator: its token expired" {
		t.Errorf("code %d, %v", exitCode(err), err)
	}
	if other := errors.New("the connection broke"); notShown(other) != other {
		t.Error("whatever else went wrong is no bad input")
	}
}

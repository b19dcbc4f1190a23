package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// B1 (CASES: updates of 3 islands for one weight, 0.2, NaN, 0.4; the mean spreads NaN to
// all): here one of two islands sends NaN. It is refused, tensor and island are named, it
// is re-seeded with the shared model, and nothing non-finite reaches model or checkpoint.
// The arithmetic of the case is in bank_test.go.
func TestB1NonFiniteContribution(t *testing.T) {
	t.Parallel()
	run := tiny(t, nil)
	dir := folder(t)
	c := begin(t, dir, run, false, nil, faking("slow-2="+actPoison))
	sum := c.finish()
	ruled := recorded[ledger.Ruled](c)
	if len(ruled) == 0 || ruled[0].Island != "slow" || ruled[0].Ruling != ledger.Refused || !strings.Contains(ruled[0].Reason, "not finite") {
		t.Errorf("the refusal is not told: %v", ruled)
	}
	if log := read(t, filepath.Join(dir, "logs", "slow-2.log")); !strings.Contains(log, "re-seeded") {
		t.Errorf("it was not re-seeded:\n%s", log)
	}
	if sum.Refused == 0 || sum.Islands[0].Steps == 0 {
		t.Errorf("%+v", sum)
	}
	for _, part := range []string{"model.safetensors", "momentum.safetensors"} {
		if !outer.Finite(saved(t, dir, part, run)) {
			t.Errorf("%s holds a value that is not finite", part)
		}
	}
}

// Three refusals shut an island out for good; the other one trains everything. A
// contribution for another fragment that was on its way is refused as well.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	run := tiny(t, nil)
	c := begin(t, folder(t), run, false, nil, faking("slow-2="+actVenom))
	sum := c.finish()
	gone := recorded[ledger.IslandGone](c)
	if gone[0].Island != "slow" || gone[0].Kind != ledger.Quarantined || !strings.Contains(gone[0].Reason, "were refused") {
		t.Errorf("%v", gone)
	}
	if sum.Islands[1].Restarts != 0 || sum.Refused < 3 || sum.Refused > 2+run.Exchange.Fragments {
		t.Errorf("%+v", sum)
	}
}

// Danger: an island that does not keep to the protocol is sent away, comes back and does it again, for
// ever. It is shut out at the first time, with what it did; the other one trains everything.
func TestWhoBreaksTheProtocolIsShutOut(t *testing.T) {
	t.Parallel()
	c := begin(t, folder(t), tiny(t, nil), false, nil, faking("slow-2="+actRush))
	sum := c.finish()
	gone := recorded[ledger.IslandGone](c)
	if gone[0].Island != "slow" || gone[0].Kind != ledger.Quarantined || !strings.Contains(gone[0].Reason, "came before the verdict on 1") {
		t.Errorf("%v", gone)
	}
	if sum.Islands[1].Restarts != 0 {
		t.Errorf("%+v", sum.Islands)
	}
}

// B10 (CASES: island killed at inner step 7 of round 4; its position is lost): here a lone
// island is killed at step 60. The tape closes its life at the last committed sample, and
// the next life begins exactly there.
func TestB10PositionOfAKilledIsland(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	const killed = 60 * 4
	c := begin(t, dir, alone(t, waiting), false, nil, faking(fmt.Sprintf("only-1=%s%d", actDie, killed)))
	c.finish()
	at := closedAt(t, dir, 1)
	if at < killed-20*4 || at > killed {
		t.Errorf("closed at sample %d, killed at %d", at, killed)
	}
	for _, raw := range tapes(t, dir)[0].Coordinator {
		var lease coord.LeaseRecord
		if err := json.Unmarshal(raw, &lease); err != nil {
			t.Fatal(err)
		}
		if lease.Kind == "lease" && lease.Incarnation == 2 {
			if lease.Ranges[0].From != at {
				t.Errorf("its successor begins at sample %d instead of %d", lease.Ranges[0].From, at)
			}
			return
		}
	}
	t.Error("no lease of a second life")
}

// Danger: anybody who finds the port can disturb a run. Here come noise, strangers, the
// same process twice and the wrong names, while the run goes on.
func TestIntruders(t *testing.T) {
	t.Parallel()
	var c *trial
	come, gone := make(chan struct{}), make(chan struct{})
	c = begin(t, folder(t), tiny(t, nil), false, func(_ *trial, e ledger.Event) {
		if s, ok := e.(ledger.StepDone); ok && s.Incarnation == 1 && s.Step == 20 {
			close(come) // the run goes on meanwhile
		}
		if s, ok := e.(ledger.StepDone); ok && s.Incarnation == 1 && s.Step == 40 {
			<-gone // but does not end before they have been
		}
	})
	within(t, "step 20", come)
	join, err := wire.ParseJoin(c.process("fast", 1).Join)
	if err != nil {
		t.Fatal(err)
	}
	noise(t, join.Address)
	for name, intruder := range map[string]struct {
		change func(*wire.Join)
		hello  func(*wire.Hello)
		reason string
	}{
		"wrong secret":         {func(j *wire.Join) { j.Secret = "x" }, nil, "secret"},
		"wrong run":            {func(j *wire.Join) { j.RunID = "another" }, nil, "another"},
		"old era":              {func(j *wire.Join) { j.Era = 0 }, nil, "era 0 is over"},
		"later era":            {func(j *wire.Join) { j.Era = 2 }, nil, "era 2"},
		"the same life again":  {nil, nil, "is process"},
		"its stream, stolen":   {nil, func(h *wire.Hello) { h.Reconnect = true }, "is process"},
		"a life never started": {func(j *wire.Join) { j.Incarnation = 77 }, nil, "never started"},
		"under a wrong name":   {func(j *wire.Join) { j.Island = "slow" }, nil, "is island"},
		"other bits":           {nil, func(h *wire.Hello) { h.KernelSet = "abacus" }, "abacus"},
	} {
		j := join
		if intruder.change != nil {
			intruder.change(&j)
		}
		if err := intrude(t, j, intruder.hello); err == nil || !strings.Contains(err.Error(), intruder.reason) {
			t.Errorf("%s: %v, want a refusal with %q", name, err, intruder.reason)
		}
	}
	close(gone)
	sum := c.finish()
	if sum.Islands[0].Restarts+sum.Islands[1].Restarts > 0 || sum.Refused > 0 {
		t.Errorf("the run was disturbed: %+v", sum)
	}
}

// intrude opens a session, says what it should not, and returns why it was ended.
func intrude(t testing.TB, join wire.Join, change func(*wire.Hello)) error {
	t.Helper()
	set, err := kernel.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	hello := &wire.Hello{KernelSet: set.Name(), Version: "intruder", Pid: 1}
	if change != nil {
		change(hello)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := transport.Dial(ctx, join, hello)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, body := range []*wire.FromLearner{
		{Body: &wire.FromLearner_Progress{Progress: &wire.Progress{Step: 1 << 40, Position: 1 << 40, Tokens: 1 << 50, StepSeconds: 1, Loss: math.NaN()}}},
		{Body: &wire.FromLearner_Idle{Idle: &wire.Idle{Position: 1 << 40}}},
		{Body: &wire.FromLearner_Contribution{Contribution: &wire.Contribution{Sequence: 1 << 40, ToPosition: 1 << 40, Tokens: 1 << 40}}},
		{Body: &wire.FromLearner_Leaving{Leaving: &wire.Leaving{Reason: "sabotage"}}},
	} {
		if err := conn.Send(transport.Up{FromLearner: body}); err != nil {
			break // it was shown the door already
		}
	}
	for {
		m, err := conn.Recv(ctx)
		if err != nil {
			return err
		}
		if r := m.GetRejected(); r != nil {
			return fmt.Errorf("rejected: %s", r.Reason)
		}
	}
}

// noise sends what is no protocol at all.
func noise(t testing.TB, address string) {
	t.Helper()
	for _, data := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 4096)} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(data)) //nolint:errcheck // it may be closed already
		conn.Close()
	}
}

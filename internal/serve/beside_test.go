package serve_test

import (
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// The danger: a coordinator without accelerators is refused for a torch island of another host,
// starts it, or waits for a trainer at a socket of its own. Under serve every island that is
// listed joins; what the file says beside its name is how train would start it.
func TestServeStartsNoIsland(t *testing.T) {
	t.Setenv("MISTURA_PYTHON", filepath.Join(t.TempDir(), "no-python"))
	run := tiny(t, func(r *runfile.Run) {
		open(r)
		r.Islands = []runfile.Island{{Name: "a", Pace: 1, Engine: runfile.Torch, Device: "npu", Precision: "bf16", Ranks: 8}, {Name: "b", Pace: 1, Engine: runfile.External}}
	})
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false, func(o *serve.Options) { o.StartIsland = []string{"/nonexistent"} })
	j := s.invitation()
	s.join(j, "a")
	s.join(j, "b")
	s.finish()
	for _, name := range []string{"a", "b"} {
		if err := s.over(name); err != nil {
			t.Errorf("island %s: %v", name, err)
		}
	}
	manifests, err := filepath.Glob(filepath.Join(s.dir, "checkpoints", "*", "manifest.json"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("%v, %v", manifests, err)
	}
	layouts := regexp.MustCompile(`"layout": ?"[^"]*"`).FindAllString(read(t, manifests[len(manifests)-1]), -1)
	if len(layouts) == 0 || strings.Contains(strings.Join(layouts, " "), "torch") {
		t.Errorf("what native islands computed on is recorded as %q", layouts)
	}
	said := ""
	for _, n := range recorded[ledger.Note](s.trial) {
		said += n.Text + "\n"
	}
	if want := "mistura join --name a --engine torch --device npu --precision bf16 --ranks 8"; !strings.Contains(said, want) || strings.Contains(said, "MISTURA_SOCKET") {
		t.Errorf("%q does not say %q", said, want)
	}
}

// The danger: whoever has a chip of his own and wants others to help needs a second process
// for it. Islands that the run starts train beside one that joins, under a name of its own.
func TestIslandsStartedAndJoinedInOneRun(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(r *runfile.Run) {
		r.Tokens, r.Gate = stepTokens*1500, runfile.GateOff
	})
	dir := filepath.Join(t.TempDir(), "run")
	s := serveRun(t, dir, run, false, func(o *serve.Options) { o.Outside = false })
	j := s.invitation()
	s.join(j, "guest")
	s.until(func(e ledger.Event) bool {
		m, ok := e.(ledger.Merged)
		return ok && len(m.Islands) == 3
	})
	s.join(j, run.Islands[0].Name)
	sum := s.finish()
	if err := s.over("guest"); err != nil {
		t.Error(err)
	}
	if err := s.over(run.Islands[0].Name); err == nil || !strings.Contains(err.Error(), "is started by the run itself; choose another name") {
		t.Errorf("%v", err)
	}
	if len(sum.Islands) != 3 {
		t.Errorf("%+v", sum.Islands)
	}
	for _, i := range sum.Islands {
		if i.Tokens == 0 {
			t.Errorf("%+v", i)
		}
	}
}

// The danger: an island that has joined a run of another machine's own islands begins from the model
// when that run is resumed, and what it had trained since its last contribution is trained again.
func TestAGuestTakesItsStateOver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	beside := func(o *serve.Options) { o.Outside = false }
	s := serveRun(t, dir, tiny(t, func(r *runfile.Run) { r.Tokens, r.Gate = stepTokens*100_000, runfile.GateOff }), false, beside)
	s.join(s.invitation(), "guest")
	merged := func(e ledger.Event) bool {
		m, ok := e.(ledger.Merged)
		return ok && slices.Contains(m.Islands, "guest")
	}
	s.until(merged)
	s.interruptNow()
	if sum, err := s.wait(); !errors.Is(err, serve.ErrInterrupted) || !savedOf(t, dir, "guest") {
		t.Fatalf("%v, %+v", err, sum)
	}
	again := serveRun(t, dir, resumedRun(t, dir), true, beside)
	again.join(again.invitation(), "guest")
	if began := recorded[ledger.RunStarted](again.trial); !slices.Contains(began[0].Islands, "guest") {
		t.Errorf("nobody awaits it: %v", began[0].Islands)
	}
	again.until(merged)
	again.interruptNow()
	sum, err := again.wait()
	if !errors.Is(err, serve.ErrInterrupted) {
		t.Errorf("%v, %+v", err, sum)
	}
	audited(t, dir, sum.Tokens/32)
	if ready := again.readyOf("guest"); ready.Steps == 0 || ready.Tokens == 0 {
		t.Errorf("it did not take its saved state over: %+v", ready)
	}
}

// The danger: the only island that is listed takes itself for alone, because the run file says
// outer_rate 1 and outer_momentum 0, while another one has joined it: it sends the same weights
// again and again, to have its own bits come out, and the run never ends.
func TestTheOnlyListedIslandIsNotAlone(t *testing.T) {
	t.Parallel()
	run := alone(t, func(r *runfile.Run) {
		one, zero, no := 1.0, 0.0, false
		r.Tokens, r.Gate = stepTokens*800, runfile.GateOff
		r.Exchange.OuterRate, r.Exchange.OuterMomentum, r.Exchange.Strict = &one, &zero, &no
	})
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false, func(o *serve.Options) { o.Outside = false })
	s.join(s.invitation(), "guest")
	sum := s.finish()
	if err := s.over("guest"); err != nil {
		t.Error(err)
	}
	if len(sum.Islands) != 2 {
		t.Errorf("%+v", sum.Islands)
	}
}

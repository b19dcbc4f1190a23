package footprint

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/runfile"
)

func of(run runfile.Run) Run { return Of(run, 8, false) }

func resolved(t *testing.T, preset string, islands ...runfile.Island) runfile.Run {
	run, err := runfile.Default().WithModel(preset)
	if err != nil {
		t.Fatal(err)
	}
	if len(islands) > 0 {
		run.Islands = islands
	}
	if run, err = run.Resolve(); err != nil {
		t.Fatal(err)
	}
	return run
}

func TestMemoryText(t *testing.T) {
	for want, m := range map[string]Run{
		"memory: 2 islands x 61.0 MB + 48.0 MB = 170 MB":                  {48_000_000, []int64{61_000_000, 61_000_000}},
		"memory: 1 island x 1.00 GB + 1 island x 1.10 GB + 1 B = 2.10 GB": {1, []int64{1_000_000_000, 1_100_000_000}},
	} {
		if got := m.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A run is refused by what it takes in all, and the refusal gives both figures.
func TestMemoryThatDoesNotFit(t *testing.T) {
	run := resolved(t, "ling-nano")
	m := of(run)
	if err := m.Fits(run, m.Total()); err != nil {
		t.Errorf("what fits exactly is refused: %v", err)
	}
	if err := m.Fits(run, 0); err != nil {
		t.Errorf("an unknown memory is too small: %v", err)
	}
	var input *fault.Input
	err := m.Fits(run, 100_000_000)
	if !errors.As(err, &input) || !strings.Contains(err.Error(), "this machine has 100 MB") || input.Value != "ling-nano" {
		t.Errorf("got %v", err)
	}
}

// The danger: an announcement that leaves out what grows. Another island costs its own
// process and the parent's part for it; a model twice as large costs twice as much.
func TestMemoryGrowsWithTheRun(t *testing.T) {
	two := of(resolved(t, "ling-micro", runfile.Island{Pace: 1, Threads: 1}, runfile.Island{Pace: 1, Threads: 1}))
	three := of(resolved(t, "ling-micro", runfile.Island{Pace: 1, Threads: 1}, runfile.Island{Pace: 1, Threads: 1}, runfile.Island{Pace: 1, Threads: 1}))
	model := 4 * int64(resolved(t, "ling-micro").Model.Size())
	if three.Islands[2] != two.Islands[0] || three.Parent-two.Parent < model {
		t.Errorf("two islands: %v, three: %v", two, three)
	}
	if lone := of(resolved(t, "ling-mini")); lone.Parent < 4*two.Parent {
		t.Errorf("ling-mini has 5 times the parameters of ling-micro: %v and %v", lone, two)
	}
}

// The danger: the gate is forgotten where islands come from other hosts. The weights of a probe are there
// twice, as they are kept and on their way, beside an engine; without a gate nothing is.
func TestMemoryOfTheGate(t *testing.T) {
	run := resolved(t, "ling-mini", runfile.Island{Pace: 1, Threads: 1})
	own, asked := Of(run, 8, false), Of(run, 8, true)
	if model := 4 * int64(run.Model.Size()); asked.Parent-own.Parent < 4*model {
		t.Errorf("%d bytes more for a model of %d", asked.Parent-own.Parent, model)
	}
	run.Gate = runfile.GateOff
	if off := Of(run, 8, true); off.Parent != own.Parent {
		t.Errorf("without a gate %d bytes, %d where nobody comes", off.Parent, own.Parent)
	}
}

// A model of the user's own: each join process holds what it exchanges and no engine, and
// nobody here measures a validation loss.
func TestMemoryOfAForeignModel(t *testing.T) {
	run, err := runfile.Parse("run.yaml", []byte("model:\n  tensors:\n    - {name: w, shape: [1000, 5000]}\ndata: {own: true}\nislands: [{engine: external}, {engine: external}]"))
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	model := int64(4 * run.Size())
	m := of(run)
	if m.Islands[0] < 9*model || m.Islands[0] > 40*model || m.Parent < 7*model || m.Parent > 40*model {
		t.Errorf("a model of %d bytes: %+v", model, m)
	}
	var input *fault.Input
	if err := m.Fits(run, 1000); !errors.As(err, &input) || input.Where != "run.yaml:2: model" {
		t.Errorf("%v", err)
	}
}

// What a plan says that an exchange takes of hosts is what is counted of the run.
func TestPlansCountTheSame(t *testing.T) {
	const size = 6 * 1000 * 5000
	for _, gate := range []string{"on", "off"} {
		text := "model:\n  tensors:\n    - {name: a, shape: [3000, 5000]}\n    - {name: b, shape: [3000, 5000]}\ndata: {own: true}\nexchange: {fragments: 2}\nislands: [{engine: external}, {engine: external}]"
		run, err := runfile.Parse("run.yaml", []byte(text))
		if err == nil {
			run, err = run.Resolve()
		}
		if err != nil {
			t.Fatal(err)
		}
		if gate == "off" {
			run.Gate = runfile.GateOff
		}
		m := of(run)
		h := plan.Exchanging{Parameters: size, Fragments: 2, Islands: 2, Whole: true, Gate: gate == "on"}.HostMemory()
		for _, of := range []struct {
			name    string
			counted int64
			told    []plan.Told
		}{{"island", m.Islands[0], h.Island}, {"syncer", m.Parent, h.Syncer}} {
			if got := plan.Sum(of.told); math.Abs(got/float64(of.counted)-1) > 1e-6 {
				t.Errorf("gate %s, %s: the plan says %g bytes, the run takes %d", gate, of.name, got, of.counted)
			}
		}
	}
}

// A torch island is this process and a Python of each rank; on a device of its own the
// weights are not in this machine's memory.
func TestMemoryOfATorchIsland(t *testing.T) {
	island := func(preset string, i runfile.Island) int64 {
		i.Pace, i.Threads = 1, 1
		return of(resolved(t, preset, i)).Islands[0]
	}
	own := island("ling-nano", runfile.Island{Engine: runfile.External})
	one := island("ling-nano", runfile.Island{Engine: runfile.Torch}) - own
	const measured = 330 << 20 // with torch 1.13
	if one < measured || one > measured*3/2 {
		t.Errorf("%d MB are announced for what took %d", one>>20, measured>>20)
	}
	// Each rank takes the whole model in memory of its own that it shares, and one of them gives it.
	model := 4 * int64(resolved(t, "ling-nano").Size())
	for ranks := range 8 {
		if all, want := island("ling-nano", runfile.Island{Engine: runfile.Torch, Ranks: ranks + 1})-own, int64(ranks+1)*one+int64(ranks)*model; all != want {
			t.Errorf("one rank takes %d, %d take %d, not %d", one, ranks+1, all, want)
		}
	}
	small, large := island("ling-nano", runfile.Island{Engine: runfile.Torch, Device: "npu"}), island("ling-mini", runfile.Island{Engine: runfile.Torch, Device: "npu"})
	if cpu := island("ling-mini", runfile.Island{Engine: runfile.Torch}); large >= cpu || large <= small {
		t.Errorf("on a device ling-nano takes %d and ling-mini %d; on the CPU that takes %d", small, large, cpu)
	}
}

// Case G17: a container may be allowed fewer processors than the host has. Go's runtime
// takes that limit, and islands share it.
func TestG17ThreadsKeepToTheLimit(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	for _, engine := range []string{runfile.Native, runfile.Torch} {
		i := runfile.Island{Pace: 1, Engine: engine}
		if got := Threads(resolved(t, "ling-tiny", i), i); got != 8 {
			t.Errorf("one %s island has %d threads", engine, got)
		}
		if got := Threads(resolved(t, "ling-tiny", i, i, i), i); got != 2 {
			t.Errorf("each of three %s islands has %d threads", engine, got)
		}
	}
}

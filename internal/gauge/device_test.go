package gauge

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/fault"
)

// little is small work of every kind that one device does.
func little(formats ...string) []chip.Key {
	s := shapes{products: []string{"8x4x2", "5x3x7"}, experts: []string{"3x4x5x6"}, attention: []string{"9x2x4"}, copies: []string{"64KiB"}}
	return s.keys(formats, nil)
}

func native(t *testing.T) Native {
	t.Helper()
	set, err := kernel.New("")
	if err != nil {
		t.Fatal(err)
	}
	return Native{Trying: Trying{Budget: time.Hour, Repeats: leastRepeats}, Kernel: set, Threads: 2}
}

// What was tried becomes a table that can be read, whatever the machine.
func comesBack(t *testing.T, tried Tried) chip.Table {
	t.Helper()
	table := chip.Origin{Chip: chip.Entry("x", nil), Software: tried.Device.Software, Source: "us", Date: "2026-11-29"}.Table(tried.Trials)
	again, err := chip.ParseTable("own.csv", table.Marshal())
	if err != nil || len(again.Rows) != len(table.Rows) {
		t.Fatalf("%v: %d of %d rows\n%s", err, len(again.Rows), len(table.Rows), table.Marshal())
	}
	return again
}

func TestNativeMeasuresEverything(t *testing.T) {
	n, keys := native(t), little("fp32")
	var told []chip.Key
	n.Tell = func(done, of int, k chip.Key) {
		if done != len(told) || of != len(keys) {
			t.Errorf("%d of %d before %+v", done, of, k)
		}
		told = append(told, k)
	}
	tried, err := n.try(t.Context(), keys)
	if err != nil || len(tried.Left) > 0 || !slices.Equal(told, keys) {
		t.Fatalf("%v, left %v, told %v", err, tried.Left, told)
	}
	for i, trial := range tried.Trials {
		if trial.Key != keys[i] || len(trial.Seconds) < leastRepeats || slices.Min(trial.Seconds) <= 0 {
			t.Errorf("%+v", trial)
		}
	}
	if !strings.HasPrefix(tried.Device.Software, "native engine, kernels "+n.Kernel.Name()+", 2 threads, go") || tried.Device.Kind != "cpu" {
		t.Errorf("%+v", tried.Device)
	}
	if rows := comesBack(t, tried).Rows; len(rows) != len(keys)+7 { // best and training of products, training of five others
		t.Errorf("%d rows", len(rows))
	}
}

// Without time everything is left out, with the reason; an end from outside is an error.
func TestNoTimeIsSaid(t *testing.T) {
	n, keys := native(t), little("fp32")
	n.Budget = 0
	tried, err := n.try(t.Context(), keys)
	if err != nil || len(tried.Trials) != 0 || len(tried.Left) != len(keys) || tried.Left[0] != (Left{keys[0], "no time was left"}) {
		t.Errorf("%v %+v", err, tried)
	}
	n.Budget = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	n.Tell = func(done, _ int, _ chip.Key) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := n.try(ctx, keys); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// Repeats are several, each long enough, and a run that takes too long says so.
func TestRepeats(t *testing.T) {
	runs := 0
	seconds, why, err := Trying{}.repeat(t.Context(), func() { runs++ }, 0)
	if err != nil || why == "" || seconds != nil {
		t.Errorf("no time at all: %v %q %v", seconds, why, err)
	}
	runs = 0
	seconds, why, err = Trying{}.repeat(t.Context(), func() { runs++ }, time.Minute)
	if err != nil || why != "" || len(seconds) < leastRepeats || len(seconds) > mostRepeats || runs < len(seconds)+2 {
		t.Errorf("%v %q %v, %d runs", seconds, why, err, runs)
	}
}

// Every key of every programme is one that a table takes and that counts for something, and
// none is there twice.
func TestProgrammes(t *testing.T) {
	for name, keys := range map[string][]chip.Key{
		"native":      processorShapes(false).keys([]string{nativeFormat}, nil),
		"processor":   Torch{Ranks: 5}.keys(true),
		"accelerator": Torch{Ranks: 8}.keys(false),
		"quick":       Torch{Ranks: 1, Trying: Trying{Quick: true}}.keys(false),
		"native, q":   processorShapes(true).keys([]string{nativeFormat}, nil),
	} {
		seen := map[chip.Key]bool{}
		for _, k := range keys {
			if !(k.Work() > 0) || math.IsInf(k.Work(), 0) || seen[k] {
				t.Errorf("%s: %+v counts for %v", name, k, k.Work())
			}
			seen[k] = true
		}
		t.Logf("%s: %d", name, len(keys))
	}
	for ranks, want := range map[int][]int{1: nil, 2: {2}, 5: {2, 4, 5}, 8: {2, 4, 8}} {
		if got := groupsOf(ranks); !slices.Equal(got, want) {
			t.Errorf("groups of %d ranks: %v", ranks, got)
		}
	}
}

// python3 is Debian's, which has torch and numpy where continuous integration runs.
const python3 = "/usr/bin/python3"

func TestTorchMeasuresEverything(t *testing.T) {
	if err := exec.Command(python3, "-c", "import torch, numpy").Run(); err != nil {
		t.Skipf("no PyTorch: %s: %v", python3, err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("OMP_NUM_THREADS", "1")
	d := Torch{Trying: Trying{Budget: time.Minute, Repeats: leastRepeats}, Python: python3, Device: "cpu", Ranks: 2}
	keys := append(little("fp32", "fp8"), shapes{collectives: []string{"4KiB"}}.keys(nil, []int{2})...)
	tried, err := d.try(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	comesBack(t, tried)
	if d := tried.Device; d.Kind != "cpu" || !strings.HasPrefix(d.Software, "PyTorch ") || d.Collectives != "gloo" {
		t.Errorf("%+v", d)
	}
	measured := map[string]bool{}
	for _, trial := range tried.Trials {
		measured[string(trial.Operation)+" "+trial.Format] = true
	}
	for _, want := range []string{"product fp32", "product_wgrad fp32", "grouped_product fp32", "grouped_wgrad fp32", "attention fp32", "attention_grad fp32",
		"copy ", "all_reduce ", "all_gather "} {
		if !measured[want] {
			t.Errorf("%s was not measured: %+v", want, tried.Left)
		}
	}
	for _, l := range tried.Left {
		if l.Why == "" || l.Key.Format != "fp8" && l.Key.Group == 0 {
			t.Errorf("left out: %+v", l)
		}
	}
	d.Device, d.Ranks = "npu", 1
	var in *fault.Input
	if _, err := d.try(t.Context(), keys); !errors.As(err, &in) || !strings.HasPrefix(err.Error(), `--engine torch, device "npu": torch_npu is not installed`) {
		t.Errorf("a device that is not there: %v", err)
	}
}

// What another program says is looked at before it is believed.
func TestOddAnswersAreRefused(t *testing.T) {
	keys, n, far := little("fp32"), 0, 99
	for _, said := range []saidJSON{{Key: &far, Left: "x"}, {At: &far}, {Key: &n}, {Key: &n, Seconds: []float64{1, 0}}} {
		var tried Tried
		if err := tried.hear(Trying{}, keys, said); err == nil || len(tried.Trials) > 0 {
			t.Errorf("%+v is taken", said)
		}
	}
}

// Whatever it says: no panic, and what is believed can be made a table of.
func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"about": {"kind": "npu", "name": "Ascend910B2", "memory": 65452113920, "devices": 8, "software": "PyTorch 2.6.0"}}`))
	f.Add([]byte(`{"at": 3}`))
	f.Add([]byte(`{"key": 1, "seconds": [1e-3, 2]}`))
	f.Add([]byte(`{"key": 2, "left": "no time was left"}`))
	f.Add([]byte(`{"key": -1, "seconds": [1e999]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var said saidJSON
		if json.Unmarshal(line, &said) != nil {
			return
		}
		var tried Tried
		err := tried.hear(Trying{}, little("fp32"), said)
		if err != nil && len(tried.Trials)+len(tried.Left) > 0 {
			t.Fatalf("%v, and %+v", err, tried)
		}
		tried.Device.Software = "s"
		comesBack(t, tried)
	})
}

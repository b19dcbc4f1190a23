package gauge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/pytorch"
)

// Torch is a device that PyTorch reaches.
type Torch struct {
	Trying
	Python string // program; empty: as package pytorch finds one
	Device string // as the user calls it
	Ranks  int    // processes, one a device, at least 1; collectives are measured among them
}

// grace is how much longer than its budget it may take: loading PyTorch, and the last run.
const grace = 3 * time.Minute

// Try measures. It ends early with the error of ctx; what is missing is a *fault.Input.
func (d Torch) Try(ctx context.Context) (Tried, error) {
	kind, _, _ := strings.Cut(strings.ToLower(d.Device), ":")
	return d.try(ctx, d.keys(kind == "cpu"))
}

// keys are those of processors or accelerators. Of products in fp8 PyTorch has the forward one only.
func (d Torch) keys(processor bool) []chip.Key {
	if processor {
		return processorShapes(d.Quick).keys([]string{"fp32", "bf16"}, groupsOf(d.Ranks))
	}
	s := acceleratorShapes(d.Quick)
	formats := []string{"bf16", "fp16", "fp32"}
	if d.Quick {
		formats = formats[:1]
	}
	keys := s.keys(formats, groupsOf(d.Ranks))
	for _, shape := range s.products {
		keys = append(keys, chip.Key{Operation: chip.Product, Format: "fp8", Shape: shape})
	}
	return keys
}

// requestJSON is what the Python package is asked to do.
type requestJSON struct {
	Device  string    `json:"device"`
	Seconds float64   `json:"seconds"`
	Began   float64   `json:"began"` // seconds since 1970
	Repeats int       `json:"repeats"`
	Keys    []keyJSON `json:"keys"`
}

type keyJSON struct {
	Operation chip.Operation `json:"operation"`
	Format    string         `json:"format"`
	Extents   []int          `json:"extents"`
	Group     int            `json:"group"`
}

// saidJSON is one of its lines.
type saidJSON struct {
	About *struct {
		Kind, Name, Software, Arch, Collectives, Visible string
		Memory                                           int64
		Devices                                          int
	}
	At      *int
	Key     *int
	Seconds []float64
	Left    string
}

func (d Torch) try(ctx context.Context, keys []chip.Key) (Tried, error) {
	now := time.Now()
	r := requestJSON{Device: d.Device, Seconds: d.Budget.Seconds(), Began: float64(now.UnixMilli()) / 1000, Repeats: cmp.Or(d.Repeats, mostRepeats)}
	for _, k := range keys {
		r.Keys = append(r.Keys, keyJSON{k.Operation, k.Format, k.Extents(), k.Group})
	}
	request, err := json.Marshal(r)
	if err != nil {
		return Tried{}, err
	}
	var t Tried
	timing := pytorch.Timing{Python: d.Python, Where: "--engine torch,", Ranks: d.Ranks, Patience: d.Budget + grace}
	err = timing.Measure(ctx, request, func(line []byte) error {
		var said saidJSON
		if json.Unmarshal(line, &said) != nil {
			return nil // a plug-in has printed it
		}
		return t.hear(d.Trying, keys, said)
	})
	if err == nil && len(t.Trials)+len(t.Left) != len(keys) {
		err = fmt.Errorf("the Python package tried %d of %d things", len(t.Trials)+len(t.Left), len(keys))
	}
	return t, err
}

// hear takes one line of the Python package.
func (t *Tried) hear(o Trying, keys []chip.Key, said saidJSON) error {
	if a := said.About; a != nil {
		t.Device = Device{Name: a.Name, Software: a.Software, Kind: a.Kind, MemoryBytes: a.Memory, Devices: a.Devices, Arch: a.Arch,
			Collectives: a.Collectives, Visible: a.Visible}
		if a.Kind == "cpu" {
			t.Device.Name, t.Device.MemoryBytes = machine.Processor(), machine.MemoryBytes()
		}
	}
	for _, i := range []*int{said.At, said.Key} {
		if i != nil && (*i < 0 || *i >= len(keys)) {
			return fmt.Errorf("the Python package speaks of number %d of %d", *i, len(keys))
		}
	}
	if said.At != nil && o.Tell != nil {
		o.Tell(*said.At, len(keys), keys[*said.At])
	}
	switch {
	case said.Key == nil:
	case said.Left != "":
		t.Left = append(t.Left, Left{keys[*said.Key], said.Left})
	case len(said.Seconds) == 0 || slices.Min(said.Seconds) <= 0:
		return fmt.Errorf("the Python package gives %v as the times of number %d", said.Seconds, *said.Key)
	default:
		t.Trials = append(t.Trials, chip.Trial{Key: keys[*said.Key], Seconds: said.Seconds})
	}
	return nil
}

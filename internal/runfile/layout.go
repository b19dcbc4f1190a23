package runfile

import (
	"fmt"
	"strings"
)

// Layout is on what an island computes, for people to read. Nothing of a saved state
// depends on it.
type Layout struct {
	Engine    string  // native, torch or external
	Device    string  // as its framework calls it; empty: the host's processor, or unknown
	Precision string  // of its products; empty: fp32
	Numeric   string  // what a native engine emulates; empty or fp32: nothing
	Pace      float64 // share of full speed; 0: 1
	Ranks     int     // processes; 0: 1
	Hosts     int     // that they are on; 0: 1
}

// Layout is what the run file asks for. Of a trainer of the user's it knows little.
func (i Island) Layout() Layout {
	l := Layout{Engine: i.Engine, Device: i.Device, Precision: i.Precision, Numeric: i.Numeric, Pace: i.Pace, Ranks: i.Ranks}
	if l.Engine == "" {
		l.Engine = Native
	}
	return l
}

// String names what is not the usual: "torch on npu, 8 ranks, bf16".
func (l Layout) String() string {
	parts := []string{l.Engine}
	if l.Device != "" {
		parts[0] += " on " + l.Device
	}
	if l.Ranks > 1 {
		ranks := fmt.Sprintf("%d ranks", l.Ranks)
		if l.Hosts > 1 {
			ranks += fmt.Sprintf(" on %d hosts", l.Hosts)
		}
		parts = append(parts, ranks)
	}
	if l.Precision != "" && l.Precision != "fp32" {
		parts = append(parts, l.Precision)
	}
	if l.Numeric != "" && l.Numeric != "fp32" {
		parts = append(parts, "emulates "+l.Numeric)
	}
	if l.Pace > 0 && l.Pace != 1 {
		parts = append(parts, fmt.Sprintf("pace %v", l.Pace))
	}
	return strings.Join(parts, ", ")
}

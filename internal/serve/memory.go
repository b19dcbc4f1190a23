package serve

import (
	"github.com/mistura-project/mistura/internal/footprint"
	"github.com/mistura-project/mistura/internal/machine"
)

// CheckMemory refuses a resolved run that this machine has not the memory for, with a
// *fault.Input.
func CheckMemory(o Options) error {
	m := memoryOf(o)
	if o.Outside {
		m.Islands = nil // they are on other hosts
	}
	return m.Fits(o.Run, machine.MemoryBytes())
}

// memoryOf is what the processes of a run take at most.
func memoryOf(o Options) footprint.Run {
	return footprint.Of(o.Run, evalRows, o.Outside || o.Listen != "")
}

package serve

import (
	"github.com/mistura-project/mistura/internal/footprint"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/runfile"
)

// CheckMemory refuses a resolved run that this machine has not the memory for, with a
// *fault.Input.
func CheckMemory(run runfile.Run) error { return memoryOf(run).Fits(run, machine.MemoryBytes()) }

// memoryOf is what the processes of a run take at most.
func memoryOf(run runfile.Run) footprint.Run { return footprint.Of(run, evalRows) }

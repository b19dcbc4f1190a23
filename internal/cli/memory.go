package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/machine"
)

// gcVariable is the Go runtime's own variable; docs/cli.md lists it.
const gcVariable = "GOGC"

// keepHeapSmall makes the collector run early, unless the user has said how: the
// memory that is announced before a run counts on it. It is called once, where a
// verb begins that holds a model.
func (env *Env) keepHeapSmall() {
	if env.Getenv(gcVariable) == "" {
		debug.SetGCPercent(machine.GCPercent)
	}
}

// fitsMemory refuses what needs more memory than the machine has.
func fitsMemory(where, value string, need int64) error {
	have := machine.MemoryBytes()
	if have == 0 || need <= have {
		return nil
	}
	return usage(where, value, fmt.Sprintf("needs %s of memory, this machine has %s", ledger.Bytes(need), ledger.Bytes(have)),
		"choose a smaller model or batch, or a machine with more memory")
}

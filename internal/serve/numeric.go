package serve

import (
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/runfile"
)

// emulations says what islands emulate, by name; islands in fp32 are left out.
func emulations(run runfile.Run) map[string]string {
	out := map[string]string{}
	for _, i := range run.Islands {
		if p, err := numeric.Find(i.Numeric); err == nil && !p.Plain() {
			out[i.Name] = p.String()
		}
	}
	return out
}

// engineOf is the engine that the run starts an island with; empty: the native one.
func engineOf(run runfile.Run, island string) string {
	for _, i := range run.Islands {
		if i.Name == island {
			return i.Engine
		}
	}
	return ""
}

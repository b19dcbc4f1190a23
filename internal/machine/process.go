package machine

// The Go runtime's part of a process.
const (
	// idleBytes is what this program takes before it does anything: its code and data as
	// far as they are read, the runtime's tables, stacks. Measured: 14 to 17 MB on Linux.
	idleBytes = 16 << 20

	// GCPercent is how far the heap may grow beyond what lives before the collector
	// runs. Nearly all that lives are a few large vectors without pointers, which cost
	// it nothing to pass over, while the usual 100 would take the model's size again.
	GCPercent = 5
)

// ProcessBytes is the memory of a process whose own data take live bytes at most, once
// the collector is set to GCPercent.
func ProcessBytes(live int64) int64 { return idleBytes + live + live*GCPercent/100 }

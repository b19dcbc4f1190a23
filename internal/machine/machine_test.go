package machine

import (
	"runtime"
	"testing"
)

// What this process holds fits the machine, and grows when it holds more.
func TestThisProcess(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("nothing is known on this system")
	}
	before := PeakBytes()
	if total := MemoryBytes(); before <= 0 || total <= before {
		t.Fatalf("%d bytes taken of %d", before, total)
	}
	held := make([]byte, 64<<20)
	for i := range held {
		held[i] = 1
	}
	if grown := PeakBytes() - before; grown < 60<<20 {
		t.Errorf("the peak grew by %d bytes, %d are held", grown, len(held))
	}
	runtime.KeepAlive(held)
}

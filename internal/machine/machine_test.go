package machine

import (
	"runtime"
	"testing"
)

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9994: "9.99 kB", 9996: "10.0 kB", 99_960: "100 kB",
		999_499: "999 kB", 999_500: "1.00 MB", 16_801_974_272: "16.8 GB", 1 << 62: "4.61 EB",
	} {
		if got := FormatBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

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

package machine

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// MemoryBytes is the machine's memory. 0: unknown.
func MemoryBytes() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(n)
}

// PeakBytes is the most memory that this process has held in RAM. 0: unknown.
func PeakBytes() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Maxrss // in bytes here
}

// Processor names the processor. Empty: unknown.
func Processor() string {
	name, err := unix.Sysctl("machdep.cpu.brand_string")
	if err != nil {
		return ""
	}
	return name
}

package machine

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// MemoryBytes is the memory that programs here may take together: the machine's, or
// the limit of the control group that the process is in. 0: unknown.
func MemoryBytes() int64 {
	least := field(read("/proc/meminfo"), "MemTotal:")
	for _, file := range limits(read("/proc/self/cgroup")) {
		if n, err := strconv.ParseInt(strings.TrimSpace(read(file)), 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// limits names the files that may hold the limit of a control group, both versions.
// Inside a container its own group is the root.
func limits(groups string) []string {
	files := []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "0":
			files = append(files, "/sys/fs/cgroup"+parts[2]+"/memory.max")
		case parts[1] == "memory":
			files = append(files, "/sys/fs/cgroup/memory"+parts[2]+"/memory.limit_in_bytes")
		}
	}
	return files
}

// PeakBytes is the most memory that this process has held in RAM. 0: unknown. It is not
// what getrusage says: that remembers the program that started this one.
func PeakBytes() int64 { return field(read("/proc/self/status"), "VmHWM:") }

// Processor names the processor. Empty: unknown.
func Processor() string {
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// field reads a line "name  number kB"; 0 when there is none.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == name && words[2] == "kB" {
			n, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64>>10 {
				return 0
			}
			return n << 10
		}
	}
	return 0
}

func read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "" // there is no such file on this kernel: unknown
	}
	return string(data)
}

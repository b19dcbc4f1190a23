package machine

import (
	"slices"
	"testing"
)

func TestField(t *testing.T) {
	const text = "MemTotal:       24684096 kB\nMemFree:        -1 kB\nHugePages_Total:       0\nBig: 99999999999999999 kB\n"
	for name, want := range map[string]int64{"MemTotal:": 24684096 << 10, "MemFree:": 0, "HugePages_Total:": 0, "Big:": 0, "Mem": 0} {
		if got := field(text, name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

func TestLimitsOfGroups(t *testing.T) {
	got := limits("4:memory:/a\n1:cpu:/b\n0::/c\nbroken\n")
	for _, want := range []string{
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
		"/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/c/memory.max",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v", got)
	}
}

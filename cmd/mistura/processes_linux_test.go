package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needProcesses(*testing.T) {}

// process is one that need not be a child. A handle is held on it, so that another
// one which gets its number is not taken for it.
type process struct {
	t      *testing.T
	pid    int
	handle int // pidfd
}

// children finds the processes whose parent is pid.
func children(t *testing.T, pid int) []process {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var out []process
	for _, stat := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err != nil || parent(stat) != pid {
			continue
		}
		handle, err := unix.PidfdOpen(child, 0)
		if err != nil {
			t.Fatalf("process %d: %v", child, err)
		}
		t.Cleanup(func() { unix.Close(handle) })
		out = append(out, process{t, child, handle})
	}
	return out
}

// parent reads the parent's number, 0 when the process is gone. The name before it is
// in parentheses and may hold anything; see proc_pid_stat(5).
func parent(stat string) int {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0
	}
	var state string
	var ppid int
	if _, err := fmt.Sscan(string(text[strings.LastIndexByte(string(text), ')')+1:]), &state, &ppid); err != nil {
		return 0
	}
	return ppid
}

func (p process) kill() {
	p.t.Helper()
	if err := unix.PidfdSendSignal(p.handle, unix.SIGKILL, nil, 0); err != nil {
		p.t.Fatalf("killing process %d: %v", p.pid, err)
	}
}

// ended waits for the end of the process; false: it runs at the deadline.
func (p process) ended(deadline time.Time) bool {
	p.t.Helper()
	for {
		left := max(0, time.Until(deadline).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.handle), Events: unix.POLLIN}}, int(left))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			p.t.Fatalf("waiting for process %d: %v", p.pid, err)
		}
		return n > 0
	}
}

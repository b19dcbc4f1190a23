package launch

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A trainer has its variables, what it prints is passed on, and how it ends is told.
func TestTrainerEnds(t *testing.T) {
	for script, want := range map[string]string{
		"echo $MISTURA_SOCKET; echo oops >&2":         "",
		"echo $MISTURA_SOCKET; echo oops >&2; exit 4": "ended: exit status 4",
	} {
		var out, err bytes.Buffer
		trainer, e := StartTrainer([]string{"sh", "-c", script}, []string{"MISTURA_SOCKET=/x"}, &out, &err)
		if e != nil {
			t.Fatal(e)
		}
		select {
		case <-trainer.Done():
		case <-time.After(patience):
			t.Fatal("its end was not told")
		}
		if got := trainer.Err(); (got == nil) != (want == "") || got != nil && !strings.Contains(got.Error(), want) {
			t.Errorf("%s: %v", script, got)
		}
		if out.String() != "/x\n" || err.String() != "oops\n" {
			t.Errorf("%s: it printed %q and %q", script, &out, &err)
		}
		trainer.Stop(0) // after its end: nothing happens
	}
	if _, err := StartTrainer([]string{filepath.Join(t.TempDir(), "nothing")}, nil, nil, nil); err == nil {
		t.Error("a program that is not there was started")
	}
}

// Whatever the trainer has started ends with it, also what does not obey.
func TestTrainerEndsWithItsGroup(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// The grandchild ignores the wish to end, tells its number, and waits for ever.
	trainer, err := StartTrainer([]string{"sh", "-c", `(trap "" TERM; echo $$ $(exec sh -c 'echo $PPID') > ` + pipe + `; while :; do sleep 1000; done) & wait`}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	numbers := strings.Fields(string(data))
	grandchild, err := strconv.Atoi(numbers[len(numbers)-1])
	if err != nil || syscall.Kill(grandchild, 0) != nil {
		t.Fatalf("process %q does not live: %v", data, err)
	}
	trainer.Stop(10 * time.Millisecond)
	for began := time.Now(); ; time.Sleep(time.Millisecond) { // whoever inherits it reaps it
		state, err := os.ReadFile("/proc/" + strconv.Itoa(grandchild) + "/stat")
		if errors.Is(syscall.Kill(grandchild, 0), syscall.ESRCH) || err == nil && strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("process %d still lives", grandchild)
		}
	}
}

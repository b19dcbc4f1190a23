package launch

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// variable makes this test binary act as an island.
const variable = "MISTURA_TEST_ACT"

func TestMain(m *testing.M) {
	if act := os.Getenv(variable); act != "" {
		os.Exit(play(act))
	}
	goleak.VerifyTestMain(m)
}

// play reads the join string and does as it is told.
func play(act string) int {
	in := bufio.NewReader(os.Stdin)
	join, err := in.ReadString('\n')
	if err != nil {
		return 9
	}
	fmt.Print("joined ", join)
	switch act {
	case "end":
		return 0
	case "fail":
		fmt.Fprintln(os.Stderr, "something broke")
		return 3
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		r, w, err := os.Pipe() // nothing is ever written to it
		if err != nil {
			return 9
		}
		r.Read(make([]byte, 1)) //nolint:errcheck // only a signal ends it
		runtime.KeepAlive(w)
	}
	in.ReadString('\n') //nolint:errcheck // the end of stdin is what it waits for
	return 0
}

const patience = 30 * time.Second

func start(t *testing.T, act string) (*Process, string, <-chan string) {
	t.Helper()
	t.Setenv(variable, act)
	log := filepath.Join(t.TempDir(), "logs", "x-1.log")
	why := make(chan string, 2)
	p, err := Start(Spec{Args: []string{os.Args[0]}, Join: "mistura://secret", Log: log}, func(w string) { why <- w })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p, log, why
}

func ended(t *testing.T, why <-chan string) string {
	t.Helper()
	select {
	case w := <-why:
		return w
	case <-time.After(patience):
		t.Fatal("its end was not told")
		return ""
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestProcessEnds(t *testing.T) {
	for act, want := range map[string]string{
		"end":  "its process ended",
		"fail": "its process ended: exit status 3; last line of its log: something broke",
	} {
		p, log, why := start(t, act)
		if got := ended(t, why); got != want {
			t.Errorf("%s: %q, want %q", act, got, want)
		}
		select {
		case <-p.Done():
		default:
			t.Errorf("%s: it is told to have ended, and is not done", act)
		}
		if !strings.Contains(content(t, log), "joined mistura://secret\n") {
			t.Errorf("%s: log %q", act, content(t, log))
		}
		p.Stop(0) // after its end: nothing happens
		p.Kill()
	}
}

// The end of stdin ends an island that obeys; the patience is not used up.
func TestStopClosesStdin(t *testing.T) {
	p, _, why := start(t, "wait")
	began := time.Now()
	p.Stop(patience)
	if got := ended(t, why); got != "its process ended" || time.Since(began) > patience/2 {
		t.Errorf("%q after %v", got, time.Since(began))
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	p, _, why := start(t, "stubborn")
	p.Stop(10 * time.Millisecond)
	if got := ended(t, why); !strings.Contains(got, "killed") {
		t.Errorf("%q", got)
	}
}

// A process that was stopped by a signal is ended by force all the same.
func TestStopEndsTheFrozen(t *testing.T) {
	p, _, why := start(t, "wait")
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Stop(10 * time.Millisecond)
	if got := ended(t, why); !strings.Contains(got, "killed") {
		t.Errorf("%q", got)
	}
}

// A Ctrl-C on the terminal goes to its foreground group; an island is in another.
func TestOwnProcessGroup(t *testing.T) {
	p, _, _ := start(t, "wait")
	group, err := syscall.Getpgid(p.PID())
	if err != nil || group != p.PID() {
		t.Errorf("process %d is in group %d: %v", p.PID(), group, err)
	}
}

func TestStartFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]Spec{
		"no such program": {Args: []string{filepath.Join(t.TempDir(), "nothing")}, Log: filepath.Join(t.TempDir(), "log")},
		"log in a file":   {Args: []string{os.Args[0]}, Log: filepath.Join(file, "log")},
		"log is a folder": {Args: []string{os.Args[0]}, Log: t.TempDir()},
	} {
		p, err := Start(spec, func(string) { t.Errorf("%s: an end was told", name) })
		if err == nil || !strings.HasPrefix(err.Error(), "starting an island: ") {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestLastLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if got := lastLine(name); got != "" {
		t.Errorf("no file: %q", got)
	}
	for data, want := range map[string]string{
		"":                                       "",
		"\n\n":                                   "",
		"one":                                    "one",
		"one\ntwo \n\n":                          "two",
		strings.Repeat("x", 10_000) + "\nlast\n": "last",
	} {
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := lastLine(name); got != want {
			t.Errorf("%.20q: %q, want %q", data, got, want)
		}
	}
}

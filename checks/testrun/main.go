// Command testrun runs go test and shows what a reader needs: one line a
// package, the whole output of what failed, every skipped test by name with its
// reason, and the counts.
//
//	go run ./checks/testrun [-strict] [arguments of go test]
//
// With -strict a skipped test is a failure, too: continuous integration installs
// what tests use, so that nothing is left out unseen. With -race so is a race in a
// process that a test has started.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	args, strict := os.Args[1:], false
	if len(args) > 0 && args[0] == "-strict" {
		args, strict = args[1:], true
	}
	found, environment, err := watchRaces(args, os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr, cmd.Env = os.Stderr, environment
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
	r := newReport(os.Stdout)
	readErr := r.read(out)
	waitErr := cmd.Wait()
	none, raceErr := found.close(os.Stdout)
	ok := r.close(strict) && none
	if err := errors.Join(readErr, waitErr, raceErr); err != nil {
		fmt.Fprintln(os.Stderr, "testrun: go test:", err)
		ok = false
	}
	if !ok {
		os.Exit(1)
	}
}

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
}

// report collects the events of a run.
type report struct {
	out                     io.Writer
	output                  map[[2]string][]string // by package and test, while it may still fail
	skips                   []string
	passed, failed, skipped int
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: make(map[[2]string][]string)}
}

// read takes events to the end of the stream; lines that are none are shown.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line)
			} else {
				r.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take adds one event.
func (r *report) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(key, e.Action)
			return
		}
		r.endTest(key, e.Action)
	}
}

// endTest counts a test and shows the output of a failed one.
func (r *report) endTest(key [2]string, action string) {
	text := r.output[key]
	delete(r.output, key)
	switch action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", key[0], key[1], skipReason(text)))
	case "fail":
		r.failed++
		fmt.Fprint(r.out, strings.Join(text, ""))
	}
}

// endPackage shows the line of a package, and all that it said when it failed.
func (r *report) endPackage(key [2]string, action string) {
	text := r.output[key]
	delete(r.output, key)
	if action == "fail" {
		for open, rest := range r.output { // a test that never ended: a panic or a time-out
			if open[0] == key[0] {
				fmt.Fprint(r.out, strings.Join(rest, ""))
				delete(r.output, open)
				r.failed++
			}
		}
		fmt.Fprint(r.out, strings.Join(text, ""))
		return
	}
	if n := len(text); n > 0 && !strings.Contains(text[n-1], "[no test files]") {
		fmt.Fprint(r.out, text[n-1])
	}
}

// skipReason is what a skipped test said, on one line.
func skipReason(output []string) string {
	said := slices.DeleteFunc(output, func(s string) bool {
		s = strings.TrimSpace(s)
		return strings.HasPrefix(s, "=== ") || strings.HasPrefix(s, "--- ")
	})
	return strings.Join(strings.Fields(strings.Join(said, " ")), " ")
}

// close prints skips and counts; false: the run is not as wanted.
func (r *report) close(strict bool) bool {
	for _, s := range r.skips {
		fmt.Fprintln(r.out, "skipped:", s)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if strict && r.skipped > 0 {
		fmt.Fprintln(r.out, "a skipped test counts as a failure here: install what it names")
		return false
	}
	return r.failed == 0
}

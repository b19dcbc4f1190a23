package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// races is the folder into which the race detector writes what it finds in any process of a
// run; empty: the run is without it. A process that a test has started, and that ends as the
// test wants, would tell nobody.
type races string

// watchRaces makes the folder, and gives the environment of a run with these arguments.
func watchRaces(args, environment []string) (races, []string, error) {
	if !slices.Contains(args, "-race") {
		return "", environment, nil
	}
	dir, err := os.MkdirTemp("", "races-")
	if err != nil {
		return "", nil, err
	}
	options := "log_path=" + filepath.Join(dir, "report")
	for _, v := range environment {
		if set, ok := strings.CutPrefix(v, "GORACE="); ok {
			options = set + " " + options // the last one of a kind counts
		}
	}
	return races(dir), append(environment[:len(environment):len(environment)], "GORACE="+options), nil
}

// close shows what was found and removes the folder; false: something was.
func (d races) close(out io.Writer) (none bool, err error) {
	if d == "" {
		return true, nil
	}
	defer os.RemoveAll(string(d)) //nolint:errcheck // nothing depends on it
	reports, err := filepath.Glob(filepath.Join(string(d), "report.*"))
	for _, name := range reports {
		text, err := os.ReadFile(name)
		if err != nil {
			return false, err
		}
		fmt.Fprintf(out, "%s", text)
	}
	if len(reports) > 0 {
		fmt.Fprintf(out, "races in %d processes; a test may pass although a process that it starts has one\n", len(reports))
	}
	return len(reports) == 0, err
}

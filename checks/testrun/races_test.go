package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Danger: a process that a test starts has a race, ends as if nothing had been, and the test passes.
func TestRaceOfAProcessThatATestStarts(t *testing.T) {
	const name = "RACING_CHILD"
	if os.Getenv(name) != "" {
		race()
		os.Exit(0) // whatever was found
	}
	found, environment, err := watchRaces([]string{"-race", "./..."}, append(os.Environ(), "GORACE=exitcode=0 log_path=stdout"))
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(environment, name+"=1")
	if said, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var out strings.Builder
	none, err := found.close(&out)
	if err != nil {
		t.Fatal(err)
	}
	if none == detecting {
		t.Errorf("no race: %v, with the detector: %v\n%s", none, detecting, out.String())
	}
	if detecting && !strings.Contains(out.String(), "WARNING: DATA RACE") {
		t.Errorf("it is said: %s", out.String())
	}
	if _, err := os.Stat(string(found)); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
}

func TestARunWithoutTheDetector(t *testing.T) {
	environment := []string{"A=1"}
	found, same, err := watchRaces([]string{"./..."}, environment)
	if err != nil || !slices.Equal(same, environment) {
		t.Errorf("%q, %v", same, err)
	}
	if none, err := found.close(new(strings.Builder)); !none || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}

// race writes one variable in two goroutines.
func race() {
	n, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		n++
	}()
	n++
	<-done
	_ = n
}

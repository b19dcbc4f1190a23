package kernel_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/fault"
)

func TestNewGivesEveryAvailableSet(t *testing.T) {
	all := kernel.Available()
	if all[0] != "go" {
		t.Fatalf("Available() = %v, want the portable set first", all)
	}
	for _, name := range all {
		s, err := kernel.New(name)
		if err != nil || s.Name() != name {
			t.Errorf("New(%q) = %v, %v", name, s, err)
		}
		if !slices.Contains(kernel.Names(), name) {
			t.Errorf("%q is not in Names()", name)
		}
	}
	s, err := kernel.New("")
	if err != nil || s.Name() != all[len(all)-1] {
		t.Errorf("New(\"\") = %v, %v, want %q", s, err, all[len(all)-1])
	}
}

func TestNewRefusesUnknownSet(t *testing.T) {
	_, err := kernel.New("sse9")
	var in *fault.Input
	if !errors.As(err, &in) {
		t.Fatalf("New(sse9) = %v, want *fault.Input", err)
	}
	for _, part := range []string{"MISTURA_KERNEL", `"sse9"`, "go"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv(kernel.Variable, "go")
	if s, err := kernel.FromEnvironment(); err != nil || s.Name() != "go" {
		t.Errorf("FromEnvironment() = %v, %v", s, err)
	}
	t.Setenv(kernel.Variable, "fast")
	if _, err := kernel.FromEnvironment(); err == nil {
		t.Error("a set that does not exist was accepted")
	}
}

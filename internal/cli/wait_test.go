package cli

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
)

// A signal ends a computation that would go on, and none changes what comes out.
func TestAwaitEndsWithASignal(t *testing.T) {
	signals := make(chan os.Signal, 1)
	env := &Env{Signals: signals}
	want := errors.New("as it came")
	if err := env.await(func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
	signals <- syscall.SIGTERM
	never := make(chan struct{})
	defer close(never)
	if err := env.await(func() error { <-never; return nil }); !errors.Is(err, context.Canceled) || exitCode(err) != exitInterrupted {
		t.Errorf("got %v", err)
	}
}

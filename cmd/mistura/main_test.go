package main

import (
	"os"
	"slices"
	"syscall"
	"testing"
)

// Danger: a terminal closes, the hang-up comes twice, and the second one stops the run
// before it has saved.
func TestAHangUpIsNeverTheSecondSignal(t *testing.T) {
	for name, c := range map[string]struct{ sent, want []os.Signal }{
		"terminal closes": {
			[]os.Signal{syscall.SIGHUP, syscall.SIGHUP, os.Interrupt},
			[]os.Signal{syscall.SIGHUP, os.Interrupt},
		},
		"interrupt, then the terminal closes": {
			[]os.Signal{os.Interrupt, syscall.SIGHUP, syscall.SIGHUP, syscall.SIGTERM},
			[]os.Signal{os.Interrupt, syscall.SIGTERM},
		},
		"two interrupts": {
			[]os.Signal{os.Interrupt, os.Interrupt, syscall.SIGHUP},
			[]os.Signal{os.Interrupt, os.Interrupt},
		},
	} {
		system, handed := make(chan os.Signal, len(c.sent)), make(chan os.Signal, len(c.sent))
		for _, s := range c.sent {
			system <- s
		}
		handOn(system, handed)
		close(handed)
		var got []os.Signal
		for s := range handed {
			got = append(got, s)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: handed on %v, want %v", name, got, c.want)
		}
	}
}

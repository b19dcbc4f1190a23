//go:build !linux

package main

import (
	"testing"
	"time"
)

// needProcesses skips a test that must find the children of another process.
func needProcesses(t *testing.T) { t.Skip("finds islands through /proc, which only Linux has") }

type process struct{ pid int }

func children(*testing.T, int) []process { return nil }

func (process) kill() {}

func (process) ended(time.Time) bool { return false }

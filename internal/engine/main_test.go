package engine

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a test leaves a worker behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

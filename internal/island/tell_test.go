package island

import (
	"testing"
	"time"
)

// The first line comes after seconds, those that follow further apart, each with the speed since the one before.
func TestWhenAnIslandTells(t *testing.T) {
	var tells teller
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var at []int
	for second := range 100 {
		if speed, due := tells.due(begun.Add(time.Duration(second)*time.Second), int64(1000+10*second)); due {
			at = append(at, second)
			if speed != 10 {
				t.Errorf("after %d s: %v tokens/s", second, speed)
			}
		}
	}
	if len(at) != 4 || at[0] != 5 || at[1] != 35 || at[2] != 65 || at[3] != 95 {
		t.Errorf("told after %v s", at)
	}
}

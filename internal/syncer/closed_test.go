package syncer

import (
	"testing"

	"pgregory.net/rapid"
)

// The set answers like a map, in whatever order incarnations end, and stays as short
// as the gaps are few.
func TestClosedIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c closed
		twin := map[uint64]bool{}
		for _, n := range rapid.SliceOf(rapid.Uint64Range(0, 40)).Draw(t, "ended") {
			c.add(n)
			twin[n] = true
		}
		gaps := 1
		for n := range uint64(42) {
			if c.has(n) != twin[n] {
				t.Fatalf("%d is closed: %v, want %v (%v)", n, c.has(n), twin[n], c.spans)
			}
			if n > 0 && twin[n-1] && !twin[n] {
				gaps++
			}
		}
		if len(c.spans) > gaps {
			t.Fatalf("%d spans for %d gaps: %v", len(c.spans), gaps, c.spans)
		}
	})
}

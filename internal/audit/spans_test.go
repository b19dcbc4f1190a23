package audit

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/coord"
)

// TestSpansAreASet: spans answer like a map of samples.
func TestSpansAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		twin := map[int64]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "moves") {
			from := rapid.Int64Range(0, 30).Draw(t, "from")
			r := coord.Range{From: from, To: from + rapid.Int64Range(-1, 8).Draw(t, "length")}
			if rapid.Bool().Draw(t, "add") {
				var want int64
				for n := r.From; n < r.To; n++ {
					if twin[n] {
						want++
					}
					twin[n] = true
				}
				if got := spans(s.add(r)).len(); got != want {
					t.Fatalf("%d of %v were there, want %d", got, r, want)
				}
			} else {
				s.remove(r)
				for n := r.From; n < r.To; n++ {
					delete(twin, n)
				}
			}
			if s.len() != int64(len(twin)) {
				t.Fatalf("%v holds %d, want %d", s, s.len(), len(twin))
			}
			for i, r := range s {
				if r.Len() <= 0 || i > 0 && s[i-1].To >= r.From {
					t.Fatalf("not ascending and apart: %v", s)
				}
				for n := r.From; n < r.To; n++ {
					if !twin[n] {
						t.Fatalf("%d is in %v", n, s)
					}
				}
			}
		}
	})
}

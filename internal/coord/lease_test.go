package coord

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPoolKeepsEverySample: whatever is taken and given back, each sample is either
// in the pool or out, once, and those that came back go first.
func TestPoolKeepsEverySample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(0, 60).Draw(t, "total")
		p := pool{total: total}
		var out []Range
		for range rapid.IntRange(0, 20).Draw(t, "moves") {
			if rapid.Bool().Draw(t, "take") {
				n := rapid.Int64Range(0, 10).Draw(t, "n")
				left := p.left()
				got := p.take(n)
				if length(got) != min(n, left) {
					t.Fatalf("took %v of %d, %d were left", got, n, left)
				}
				out = append(out, got...)
			} else if len(out) > 0 {
				i := rapid.IntRange(0, len(out)-1).Draw(t, "back")
				p.give(out[i : i+1])
				out = slices.Delete(out, i, i+1)
			}
			times := make([]int, total)
			for _, r := range slices.Concat(out, p.returned, []Range{{p.next, total}}) {
				for n := r.From; n < r.To; n++ {
					times[n]++
				}
			}
			if slices.ContainsFunc(times, func(n int) bool { return n != 1 }) {
				t.Fatalf("samples are out and in %v times: out %v, pool %+v", times, out, p)
			}
			for i := 1; i < len(p.returned); i++ {
				if p.returned[i-1].To >= p.returned[i].From {
					t.Fatalf("returned ranges are not ascending and apart: %v", p.returned)
				}
			}
		}
	})
}

// TestLeaseIsAList: a lease that forgets answers like a list of samples by position.
func TestLeaseIsAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lease
		var twin []int64
		for range rapid.IntRange(0, 12).Draw(t, "moves") {
			from := rapid.Int64Range(0, 50).Draw(t, "from")
			r := Range{from, from + rapid.Int64Range(0, 6).Draw(t, "len")}
			l.add([]Range{r})
			for n := r.From; n < r.To; n++ {
				twin = append(twin, n)
			}
			l.forget(rapid.Int64Range(0, 8).Draw(t, "forget"))
			at := rapid.Int64Range(l.base, l.end).Draw(t, "position")
			if l.end != int64(len(twin)) || !slices.Equal(samples(l.until(at)), twin[l.base:at]) || !slices.Equal(samples(l.from(at)), twin[at:]) {
				t.Fatalf("%+v at %d: %v and %v of %v", l, at, l.until(at), l.from(at), twin)
			}
		}
	})
}

func samples(ranges []Range) []int64 {
	out := []int64{}
	for _, r := range ranges {
		for n := r.From; n < r.To; n++ {
			out = append(out, n)
		}
	}
	return out
}

func TestWindowMedian(t *testing.T) {
	var w window
	for i := range 40 { // the last 31: 9 … 39
		w.add(float64((i * 7) % 40))
	}
	var last []float64
	for i := 9; i < 40; i++ {
		last = append(last, float64((i*7)%40))
	}
	slices.Sort(last)
	if got := w.median(); got != last[15] {
		t.Errorf("median %v, want %v", got, last[15])
	}
}

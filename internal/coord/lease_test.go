package coord

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPoolKeepsEverySample: whatever is taken, given back, withheld and left out, each
// sample is in the pool, out or left out, once; those that came back go first, and a
// withheld step goes out behind the new samples below its due.
func TestPoolKeepsEverySample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(0, 60).Draw(t, "total")
		p := pool{total: total}
		var out, gone []Range
		for range rapid.IntRange(0, 20).Draw(t, "moves") {
			switch i := rapid.IntRange(0, max(len(out)-1, 0)).Draw(t, "which"); rapid.IntRange(0, 4).Draw(t, "move") {
			case 0, 1:
				n := rapid.Int64Range(0, 10).Draw(t, "n")
				left := p.left()
				got := p.take(n)
				if length(got) != min(n, left) {
					t.Fatalf("took %v of %d, %d were left", got, n, left)
				}
				inOrder(t, p, got)
				out = append(out, got...)
			case 2:
				if len(out) > 0 {
					p.give(out[i : i+1])
					out = slices.Delete(out, i, i+1)
				}
			case 3:
				if len(out) > 0 && !out[i].Retry() {
					p.give([]Range{{out[i].From, out[i].To, rapid.Int64Range(1, total).Draw(t, "due")}})
					out = slices.Delete(out, i, i+1)
				}
			case 4:
				from := rapid.Int64Range(0, total).Draw(t, "from")
				gone = append(gone, p.leaveOut(Range{From: from, To: from + rapid.Int64Range(0, 5).Draw(t, "len")})...)
			}
			onlyOnce(t, p, out, gone)
		}
		out = append(out, p.take(total+1)...)
		if p.left() != 0 || length(out)+length(gone) != total {
			t.Fatalf("%d samples stay in %+v", total-length(out)-length(gone), p)
		}
	})
}

// inOrder: a second try goes out before the first new sample that is not below its due.
func inOrder(t *rapid.T, p pool, got []Range) {
	fresh := p.next
	if len(p.returned) > 0 {
		fresh = p.returned[0].From
	}
	for _, r := range slices.Backward(got) {
		switch {
		case !r.Retry():
			fresh = r.From
		case r.Due > fresh && fresh < p.total:
			t.Fatalf("%v goes out in %v, and new samples below its due behind it", r, got)
		}
	}
	if len(p.retries) > 0 && len(got) > 0 {
		if last := got[len(got)-1]; !last.Retry() && last.To > p.retries[0].Due && last.From < p.retries[0].Due {
			t.Fatalf("%v goes out past %v", last, p.retries[0])
		}
	}
}

func onlyOnce(t *rapid.T, p pool, out, gone []Range) {
	times := make([]int, p.total)
	inside := slices.Concat(out, gone, p.returned, p.retries, []Range{{From: p.next, To: p.total}})
	for _, r := range inside {
		for n := r.From; n < r.To; n++ {
			times[n]++
		}
	}
	for _, r := range p.ahead { // left out, and not reached yet
		for n := r.From; n < r.To; n++ {
			times[n]--
		}
	}
	if slices.ContainsFunc(times, func(n int) bool { return n != 1 }) {
		t.Fatalf("samples are out and in %v times: out %v, gone %v, pool %+v", times, out, gone, p)
	}
	for i := 1; i < len(p.returned); i++ {
		if p.returned[i-1].To > p.returned[i].From {
			t.Fatalf("returned ranges are not ascending and apart: %v", p.returned)
		}
	}
}

// TestLeaseIsAList: a lease that forgets answers like a list of samples by position.
func TestLeaseIsAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lease
		var twin []int64
		for range rapid.IntRange(0, 12).Draw(t, "moves") {
			from := rapid.Int64Range(0, 50).Draw(t, "from")
			r := Range{From: from, To: from + rapid.Int64Range(0, 6).Draw(t, "len")}
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

package engine

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestPoolRunsEveryItemOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := newPool(threads)
		for items := range 40 {
			counts := make([]atomic.Int32, items)
			p.run(items, func(_ *worker, i int) { counts[i].Add(1) })
			for i := range counts {
				if n := counts[i].Load(); n != 1 {
					t.Fatalf("%d threads: item %d of %d ran %d times", threads, i, items, n)
				}
			}
		}
		p.close()
	}
}

// TestPoolRunReturnsWhenItemsAreDone checks that what items wrote is visible and
// that nobody is inside any more.
func TestPoolRunReturnsWhenItemsAreDone(t *testing.T) {
	p := newPool(4)
	defer p.close()
	sums := make([]int, 64)
	for round := range 500 {
		p.run(len(sums), func(_ *worker, i int) {
			if i%7 == 0 {
				runtime.Gosched()
			}
			sums[i]++
		})
		for i, n := range sums {
			if n != round+1 {
				t.Fatalf("round %d: item %d was written %d times", round, i, n)
			}
		}
		if p.state.Load()&(openBit|insideMask) != 0 {
			t.Fatalf("round %d: state %x", round, p.state.Load())
		}
	}
}

// TestPoolWakesSleepers lets helpers fall asleep between phases.
func TestPoolWakesSleepers(t *testing.T) {
	p := newPool(3)
	defer p.close()
	for range 5 {
		for _, w := range p.workers[1:] {
			for !w.asleep.Load() {
				runtime.Gosched()
			}
		}
		// All three must be inside at once for this to end.
		var inside atomic.Int32
		p.run(3, func(*worker, int) {
			inside.Add(1)
			for inside.Load() < 3 {
				runtime.Gosched()
			}
		})
	}
}

func TestPoolGivesEachWorkerItsOwnMemory(t *testing.T) {
	p := newPool(3)
	defer p.close()
	for _, w := range p.workers {
		w.scratch.row = make([]float32, 1)
	}
	p.run(1000, func(w *worker, i int) {
		w.scratch.row[0] = float32(i)
		runtime.Gosched()
		if w.scratch.row[0] != float32(i) {
			t.Error("two items share a worker's memory at the same time")
		}
	})
}

func TestPoolClosesTwice(t *testing.T) {
	p := newPool(3)
	p.close()
	p.close()
}

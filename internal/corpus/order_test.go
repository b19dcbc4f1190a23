package corpus

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// B7: 10 samples, batch 2, 3 epochs; stopped after step 7 and resumed. Elsewhere the
// order differed from the second epoch on. Here an order has no state: the samples of
// steps 8 to 15 are those of the unbroken run.
func TestAResumedRunGoesOnInTheSameOrder(t *testing.T) {
	const windows, batch, steps = 10, 2, 15
	run := func(from int) []int64 {
		order := NewOrder(42, windows)
		var ids []int64
		for sample := from * batch; sample < steps*batch; sample++ {
			ids = append(ids, order.Window(uint64(sample)))
		}
		return ids
	}
	unbroken, resumed := run(0), run(7)
	if !slices.Equal(unbroken[7*batch:], resumed) {
		t.Errorf("steps 8 to 15 take %v, in the unbroken run %v", resumed, unbroken[7*batch:])
	}
	if slices.Equal(unbroken[:windows], unbroken[windows:2*windows]) {
		t.Error("the second epoch repeats the order of the first")
	}
}

func TestEachEpochTakesEveryWindowOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		windows := rapid.Int64Range(1, 300).Draw(t, "windows")
		epoch := rapid.Uint64Range(0, 1<<40).Draw(t, "epoch")
		order := NewOrder(rapid.Uint64().Draw(t, "seed"), windows)
		seen := make([]bool, windows)
		for place := range uint64(windows) {
			w := order.Window(epoch*uint64(windows) + place)
			if seen[w] {
				t.Fatalf("window %d comes twice in epoch %d", w, epoch)
			}
			seen[w] = true
		}
	})
}

// The order is durable: resuming a run depends on it.
func TestOrderGolden(t *testing.T) {
	order := NewOrder(1, 10)
	var got []int64
	for sample := range uint64(20) {
		got = append(got, order.Window(sample))
	}
	want := []int64{8, 4, 0, 1, 3, 7, 6, 5, 2, 9}
	if !slices.Equal(got[:10], want) {
		t.Errorf("first epoch %v, want %v", got[:10], want)
	}
}

func TestAnOrderOfNothingPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewOrder(1, 0)
}

package spike

import "slices"

// window is the last losses, in the order they came and sorted.
type window struct {
	order  []float64 // oldest first
	sorted []float64
}

func (w *window) len() int { return len(w.order) }

// add takes x in and lets the oldest go when there are more than most.
func (w *window) add(x float64, most int) {
	if len(w.order) == most {
		at, _ := slices.BinarySearch(w.sorted, w.order[0])
		w.sorted = slices.Delete(w.sorted, at, at+1)
		w.order = slices.Delete(w.order, 0, 1)
	}
	at, _ := slices.BinarySearch(w.sorted, x)
	w.sorted = slices.Insert(w.sorted, at, x)
	w.order = append(w.order, x)
}

// median of at least one loss; of an even number the mean of the middle two.
func (w *window) median() float64 {
	n := len(w.sorted)
	return middle(w.sorted[(n-1)/2], w.sorted[n/2])
}

// spread is the median of the absolute deviations from the median: outwards from it
// the deviations rise on either side, so that the smaller of the next two is the next
// in order.
func (w *window) spread(median float64) float64 {
	n := len(w.sorted)
	right, _ := slices.BinarySearch(w.sorted, median)
	left := right - 1
	low, deviation := 0.0, 0.0
	for i := 0; i <= n/2; i++ {
		if right == n || left >= 0 && median-w.sorted[left] < w.sorted[right]-median {
			deviation = median - w.sorted[left]
			left--
		} else {
			deviation = w.sorted[right] - median
			right++
		}
		if i == (n-1)/2 {
			low = deviation
		}
	}
	return middle(low, deviation)
}

// middle is the mean of a and b without overflow.
func middle(a, b float64) float64 { return a/2 + b/2 }

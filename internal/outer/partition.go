package outer

import (
	"cmp"
	"slices"
)

// Partition groups tensors into fragments of about equal size: the largest tensor
// first, each into the fragment that is smallest so far. sizes are in elements.
// It returns tensor indices, ascending within a fragment, fragments ordered by
// their first tensor. No fragment is empty: with fewer tensors than fragments
// asked for there are as many fragments as tensors, and at least one is made.
//
// The result depends on the arguments only. No fragment exceeds 4/3 of the
// smallest possible maximum (Graham, "Bounds on multiprocessing timing
// anomalies", SIAM J. Appl. Math. 17 (1969), theorem 2).
func Partition(sizes []int, fragments int) [][]int {
	if len(sizes) == 0 {
		return nil
	}
	fragments = max(1, min(fragments, len(sizes)))
	order := make([]int, len(sizes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sizes[b], sizes[a]) })

	members := make([][]int, fragments)
	loads := make([]int, fragments)
	for _, tensor := range order {
		f := lightest(loads, members)
		members[f] = append(members[f], tensor)
		loads[f] += sizes[tensor]
	}
	for _, m := range members {
		slices.Sort(m)
	}
	slices.SortFunc(members, func(a, b []int) int { return cmp.Compare(a[0], b[0]) })
	return members
}

// lightest is the first fragment of least load, of those the one with the fewest
// members, so that tensors of size zero do not leave a fragment empty.
func lightest(loads []int, members [][]int) int {
	best := 0
	for f := range loads {
		c := cmp.Or(cmp.Compare(loads[f], loads[best]), cmp.Compare(len(members[f]), len(members[best])))
		if c < 0 {
			best = f
		}
	}
	return best
}

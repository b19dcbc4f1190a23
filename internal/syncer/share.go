package syncer

import "github.com/mistura-project/mistura/internal/outer"

// logMerges is how many merges of a fragment are kept to measure shares. With
// every live learner in each merge two are enough; a learner that shows up once
// in thirty is still measured.
const logMerges = 64

// share is step 5 of the merge over the fragment's own log.
func (s *State) share(it *mergeItem) float64 {
	f := s.fragments[it.fragment]
	return outer.Share(f.log, it.live, credits(it, f))
}

// remember appends a committed merge to the fragment's log.
func (f *fragment) remember(it *mergeItem) {
	f.log = append(f.log, credits(it, f))
	if over := len(f.log) - logMerges; over > 0 {
		f.log = f.log[over:]
	}
}

func credits(it *mergeItem, f *fragment) outer.Merge {
	var m outer.Merge
	for _, c := range it.parts {
		m = append(m, outer.Credit{Learner: f.table[c.Incarnation].island, Tokens: c.Tokens})
	}
	return m
}

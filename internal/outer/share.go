package outer

import "slices"

// Credit is what one learner brought into one merge of a fragment.
type Credit struct {
	Learner string `json:"learner"` // name of the island; a restarted island keeps its credits
	Tokens  int64  `json:"tokens"`  // not negative
}

// Merge lists the credits of one committed merge of a fragment, one a learner.
type Merge []Credit

// settled is how many merges of a learner the log must hold before its part is
// measured: the first contribution of a joiner stands for an odd span of time.
const settled = 2

// Share is σ, the part of an outer step that the contributions now may make: the
// part of the fleet's tokens that their learners bring. It is exactly 1 when every
// live learner takes part, so who speaks alone moves the model by its share only.
//
// log holds the committed merges of this fragment, oldest first; live the learners
// that are in the run. A learner's part is measured against the live learners only,
// over the shortest tail of the log that holds two merges of each. A learner with
// fewer than two merges in the log counts as one of len(live) equals, and the
// others divide the rest. The result depends on nothing but the arguments.
func Share(log []Merge, live []string, now []Credit) float64 {
	fleet := slices.Clone(live)
	speaks := map[string]bool{}
	for _, c := range now {
		fleet = append(fleet, c.Learner)
		speaks[c.Learner] = true
	}
	slices.Sort(fleet)
	fleet = slices.Compact(fleet)
	if len(speaks) == len(fleet) {
		return 1
	}

	tokens := measure(log, fleet)
	var total, speaking int64
	var newcomers int
	for _, learner := range fleet {
		n, measured := tokens[learner]
		total += n
		switch {
		case !speaks[learner]:
		case measured:
			speaking += n
		default:
			newcomers++
		}
	}
	share := float64(newcomers)
	if total > 0 {
		share += float64(float64(len(tokens)) * (float64(speaking) / float64(total)))
	}
	return min(1, share/float64(len(fleet)))
}

// measure gives the tokens of each settled learner of the fleet over the shortest
// tail of the log that holds enough merges of each. It is empty when those come to
// no tokens at all, for then there is nothing to measure by.
func measure(log []Merge, fleet []string) map[string]int64 {
	merges := map[string]int{}
	for _, m := range log {
		for _, c := range m {
			merges[c.Learner]++
		}
	}
	missing := map[string]int{}
	tokens := map[string]int64{}
	for _, learner := range fleet {
		if merges[learner] >= settled {
			missing[learner] = settled
			tokens[learner] = 0
		}
	}
	var total int64
	for i := len(log) - 1; i >= 0 && len(missing) > 0; i-- {
		for _, c := range log[i] {
			if _, ok := tokens[c.Learner]; !ok {
				continue
			}
			tokens[c.Learner] += c.Tokens
			total += c.Tokens
			if missing[c.Learner]--; missing[c.Learner] <= 0 {
				delete(missing, c.Learner)
			}
		}
	}
	if total == 0 {
		return nil
	}
	return tokens
}

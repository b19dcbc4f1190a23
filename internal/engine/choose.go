package engine

import (
	"math"

	"github.com/mistura-project/mistura/internal/model"
)

// chooser is the memory that a choice of experts needs.
type chooser struct {
	values []float32 // [E]
	groups []float32 // [groups]
	kept   []int32   // [TopGroups]
}

func newChooser(cfg model.Config) chooser {
	c := chooser{values: floats(cfg.Experts)}
	if cfg.Grouped() {
		c.groups, c.kept = floats(cfg.ExpertGroups), make([]int32, cfg.TopGroups)
	}
	return c
}

// choose fills choice with the experts that a token visits, the best first. What
// counts are the logits or, with a bias, score plus bias; the bias decides nothing
// else (arXiv 2408.15664).
func (l *layer) choose(c *chooser, choice []int32, logits, scores []float32) {
	values, of := logits, logits
	if l.cfg.Router == model.Sigmoid {
		of = scores // sums of logits are not those of scores, while largest ones are the same
	}
	if bias := l.w.routerBias; bias != nil {
		for e, s := range scores {
			c.values[e] = s + bias[e]
		}
		values, of = c.values, c.values
	}
	if l.cfg.Grouped() {
		values = l.keepGroups(c, values, of)
	}
	chooseTop(choice, values)
}

// keepGroups gives values with the experts of all but the best TopGroups groups out of
// the race. Groups are compared by the values in of: softmax routers by the largest of
// a group (DeepSeek-V2, arXiv 2405.04434), sigmoid routers by the sum of its two largest
// (DeepSeek-V3, arXiv 2412.19437).
func (l *layer) keepGroups(c *chooser, values, of []float32) []float32 {
	each := l.cfg.Experts / l.cfg.ExpertGroups
	for g := range c.groups {
		first, second := topTwo(of[g*each : (g+1)*each])
		c.groups[g] = first
		if l.cfg.Router == model.Sigmoid && each > 1 {
			c.groups[g] += second
		}
	}
	chooseTop(c.kept, c.groups)
	copy(c.values, values)
	for g := range c.groups {
		if contains(c.kept, int32(g)) {
			continue
		}
		for e := g * each; e < (g+1)*each; e++ {
			c.values[e] = float32(math.Inf(-1))
		}
	}
	return c.values
}

// topTwo gives the two largest of x; the second of one is -Inf.
func topTwo(x []float32) (first, second float32) {
	first, second = float32(math.Inf(-1)), float32(math.Inf(-1))
	for _, v := range x {
		switch {
		case v > first:
			first, second = v, first
		case v > second:
			second = v
		}
	}
	return first, second
}

// chooseTop fills choice with the numbers of the largest values, largest first,
// the lowest number first among equals (case A6). Without a bias these are logits in
// fp32: scores of unequal logits may round to the same value.
func chooseTop(choice []int32, values []float32) {
	for k := range choice {
		best := int32(-1)
		for e, x := range values {
			if (best < 0 || x > values[best]) && !contains(choice[:k], int32(e)) {
				best = int32(e)
			}
		}
		choice[k] = best
	}
}

func contains(list []int32, x int32) bool {
	for _, y := range list {
		if y == x {
			return true
		}
	}
	return false
}

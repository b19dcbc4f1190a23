package search

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/plan"
)

// limit is what keeps a plan from being better, by how much.
type limit struct {
	gain float64
	text string
}

// limits are those of the first plan, the strongest first.
func (s *search) limits(first combination, changes []Change) []string {
	all := append(s.bounds(first), s.waits(first)...)
	for _, c := range changes {
		if gain := s.gain(c); gain >= 0.005 && strings.Contains(c.What, "+10 %") {
			all = append(all, limit{gain, fmt.Sprintf("%s would save %.1f %%", c.What, 100*gain)})
		}
	}
	slices.SortStableFunc(all, func(a, b limit) int { return cmp.Compare(b.gain, a.gain) })
	var out []string
	for _, l := range all {
		out = append(out, l.text)
	}
	return out
}

// gain is what a change saves of the objective.
func (s *search) gain(c Change) float64 {
	if s.q.Objective == Time {
		return -c.Seconds
	}
	return -c.Cost
}

// bounds are the question's.
func (s *search) bounds(first combination) []limit {
	var all []limit
	better := func(what string, t goal) {
		t.top = 1
		free := s.find(t)
		if len(free) == 0 {
			return
		}
		gain := 1 - free[0].cost/first.cost
		if s.q.Objective == Time {
			gain = 1 - free[0].seconds/first.seconds
		}
		if gain > 1e-9 {
			all = append(all, limit{gain, fmt.Sprintf("%s: without it the run takes %s and costs %s", what, days(free[0].seconds), s.amount(free[0].cost))})
		}
	}
	none := goal{deadline: unlimited(), budget: unlimited()}
	if t := s.goal(); s.q.Deadline > 0 {
		t.deadline = none.deadline
		better("the deadline of "+days(s.q.Deadline), t)
	}
	if t := s.goal(); s.q.Budget > 0 {
		t.budget = none.budget
		better("the budget of "+s.amount(s.q.Budget), t)
	}
	if most := s.choices[len(s.choices)-1].islands; first.choice.islands == most && len(s.choices) > 1 {
		all = append(all, limit{0, fmt.Sprintf("the number of islands: all %d that are allowed", most)})
	}
	if len(s.grounds) > 1 && len(s.choices) == 1 && s.choices[0].islands == 1 {
		why := "for more, add max_islands and max_period to the fleet file"
		if len(s.q.allowed()) > 1 {
			why = "in the periods that more may have they would not make a step, or syncers could not hold them"
		}
		all = append(all, limit{0, "a lone island: " + why})
	}
	for _, g := range s.grounds {
		if len(s.choices) > 1 && s.crowded(g, g.chips) {
			all = append(all, limit{0, fmt.Sprintf("the hosts of %s: they have %s, and an island beside others takes %s on each", g.name, scaled(g.memory), scaled(s.onHost(g, g.chips)))})
		}
	}
	for _, o := range first.options {
		if g := s.grounds[o.ground]; o.count*o.chips > g.chips-max(1, g.host) {
			all = append(all, limit{0, fmt.Sprintf("the chips of %s: all are used", g.name)})
		}
	}
	return all
}

// waits are the largest parts of steps in which chips do not multiply, and of the run.
func (s *search) waits(first combination) []limit {
	var all []limit
	r := s.whole(first).Run()
	shares := 0.0
	for i, o := range first.options {
		sum, most := 0.0, plan.Term(-1)
		for t, x := range o.found.step.Terms {
			sum += x
			if term := plan.Term(t); works(term) {
				continue
			} else if most < 0 || x > o.found.step.Terms[most] {
				most = term
			}
		}
		part := o.found.step.Terms[most] / sum
		shares = float64(o.count) * r.Shares[i]
		if part > 0.02 {
			all = append(all, limit{part * shares, fmt.Sprintf("%s takes %.0f %% of a step on %s", most, 100*part, s.grounds[o.ground].name)})
		}
	}
	for _, l := range r.Lines[1:] {
		if part := l.Mid / r.Seconds.Mid; part > 0.01 {
			all = append(all, limit{part, fmt.Sprintf("%s: %.1f %% of the time", l.Name, 100*part)})
		}
	}
	return all
}

// works says that chips multiply in a term.
func works(t plan.Term) bool {
	return t == plan.Products || t == plan.ExpertProducts || t == plan.Attention || t == plan.Head
}

// assumed is what the answer takes for granted.
func (s *search) assumed(first combination) []string {
	k := s.q.Run.Filled()
	every := "600 to 3600 s"
	if k.Checkpoint > 0 {
		every = fmt.Sprintf("%.0f s", k.Checkpoint)
	}
	all := []string{fmt.Sprintf("a checkpoint each %s of training, %.0f s from an interruption until training goes on", every, k.Restart)}
	if first.choice.period > 0 {
		if s.q.placed() == "" {
			all = append(all, "syncers stand by "+s.q.near())
		}
		all = append(all, fmt.Sprintf("%g bytes of a parameter on the wire", s.wireBytes()/s.parameters))
	}
	for _, o := range first.options {
		if g := s.grounds[o.ground]; first.choice.period > 0 && g.memory == 0 {
			all = append(all, fmt.Sprintf("hosts of %s have the %s of memory that the exchange takes on each", g.name, scaled(s.onHost(g, o.chips))))
		}
	}
	for _, l := range s.hosts[first.choice].lines {
		if l.Unknown != "" {
			all = append(all, l.Name+" are not in the cost: "+l.Unknown)
		}
	}
	if s.q.Task.Imbalance <= 1 && experts(s.q.Task.Model) > 1 {
		all = append(all, "experts have even loads")
	}
	return all
}

package search

import (
	"errors"
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// change is one step away from the question.
type change struct {
	what string
	do   func(first combination) ([]combination, error)
}

// sensitivity tries every change. What moves prices, links between islands or failures
// searches all combinations again; what moves the chips searches the layouts of the first
// plan's islands again.
func (s *search) sensitivity(first combination) []Change {
	var all []change
	for at, g := range s.grounds {
		if !first.uses(at) {
			continue
		}
		if !s.unpriced {
			all = append(all, s.among("price of "+g.name+" −5 %", func(g *ground) { g.hourly *= 0.95 }, at))
		}
		all = append(all,
			s.without("without "+g.name, at),
			s.among("twice the chips of "+g.name+", in islands no larger", func(g *ground) { g.chips *= 2 }, at))
	}
	if first.choice.period > 0 {
		all = append(all, s.slower("links between islands −5 %", 0.95), s.slower("links between islands at half", 0.5))
	}
	all = append(all, s.failing(first))
	for at, g := range s.grounds {
		if first.uses(at) {
			all = append(all, s.chipChanges(at, g)...)
		}
	}
	if s.q.Deadline > 0 {
		all = append(all, change{"deadline 10 % later", func(combination) ([]combination, error) {
			t := s.goal()
			t.deadline, t.top = 1.1*t.deadline, 1
			return s.alone().find(t), nil
		}})
	}
	out := make([]Change, len(all))
	s.q.Parallel(len(all), func(i int) {
		if out[i] = all[i].against(first); s.unpriced {
			out[i].Cost = math.NaN()
		}
	})
	return out
}

// against tells what a change does.
func (c change) against(first combination) Change {
	out := Change{What: c.what}
	then, err := c.do(first)
	switch {
	case err != nil:
		out.Missing = err.Error()
	case len(then) == 0:
		out.Missing = "no plan is left"
	default:
		out.Kept = then[0].same(first)
		out.Cost, out.Seconds = over(then[0].cost, first.cost), then[0].seconds/first.seconds-1
	}
	return out
}

// over is a fraction more; nothing of nothing is no more.
func over(now, before float64) float64 {
	if before == 0 {
		return 0
	}
	return now/before - 1
}

func (c combination) uses(ground int) bool {
	for _, o := range c.options {
		if o.ground == ground {
			return true
		}
	}
	return false
}

// same says that the islands and their layouts are.
func (c combination) same(other combination) bool {
	if len(c.options) != len(other.options) || c.choice != other.choice {
		return false
	}
	for i, o := range c.options {
		p := other.options[i]
		if o.ground != p.ground || o.count != p.count || o.chips != p.chips || less(o.found.frame, p.found.frame) || less(p.found.frame, o.found.frame) {
			return false
		}
	}
	return true
}

// alone is the search with grounds of its own, one thing after another.
func (s *search) alone() *search {
	other := *s
	other.q.Parallel = inTurn
	other.grounds = nil
	for _, g := range s.grounds {
		copied := *g
		other.grounds = append(other.grounds, &copied)
	}
	return &other
}

// among searches all combinations again after something was done to some pools, or to all.
func (s *search) among(what string, do func(*ground), at ...int) change {
	return change{what, func(combination) ([]combination, error) {
		other := s.alone()
		for i, g := range other.grounds {
			if len(at) == 0 || at[0] == i {
				do(g)
			}
		}
		other.offer()
		t := s.goal()
		t.top = 1
		return other.find(t), nil
	}}
}

// failing is chips that are interrupted twice as often, where somebody knows how often.
func (s *search) failing(first combination) change {
	for _, o := range first.options {
		if s.grounds[o.ground].hardware.MTBF > 0 {
			return s.among(failing, func(g *ground) { g.hardware.MTBF /= 2 })
		}
	}
	return change{failing, func(combination) ([]combination, error) {
		return nil, errors.New("mtbf not known")
	}}
}

const failing = "interruptions twice as often"

func (s *search) without(what string, at int) change {
	return change{what, func(combination) ([]combination, error) {
		other := s.alone()
		other.pools = nil
		for _, pools := range s.pools {
			kept := append([][]*option(nil), pools...)
			kept[at] = nil
			other.pools = append(other.pools, kept)
		}
		t := s.goal()
		t.top = 1
		return other.find(t), nil
	}}
}

// slower makes what joins islands slower.
func (s *search) slower(what string, times float64) change {
	return change{what, func(combination) ([]combination, error) {
		other := s.alone()
		for _, g := range other.grounds {
			g.path.host *= times
			g.path.link *= times
		}
		if y := s.q.Fleet.Syncers; y != nil {
			hosts := *y
			hosts.Link *= times
			other.q.Fleet.Syncers = &hosts
		}
		other.offer()
		t := s.goal()
		t.top = 1
		return other.find(t), nil
	}}
}

// chipChanges are those of the chips of one pool.
func (s *search) chipChanges(at int, g *ground) []change {
	faster := func(what string, do func(*plan.Hardware)) change {
		return change{what, func(first combination) ([]combination, error) {
			return s.again(first, at, do)
		}}
	}
	all := []change{
		faster("links within "+g.name+" −5 %", func(h *plan.Hardware) { h.Link *= 0.95; h.Pair *= 0.95; h.NIC *= 0.95 }),
		faster("network of "+g.name+" at half", func(h *plan.Hardware) { h.NIC /= 2 }),
		faster("memory of "+g.name+" +10 %", func(h *plan.Hardware) { h.Memory *= 1.1 }),
		faster("memory of "+g.name+" −10 %", func(h *plan.Hardware) { h.Memory *= 0.9 }),
	}
	share := g.model.ProductShare() + 0.01
	return append(all, faster(fmt.Sprintf("products of %s at %.0f %% of the peak, a point more", g.name, 100*share), func(h *plan.Hardware) {
		h.Share = &plan.Range{Low: share, Mid: share, High: share}
	}))
}

// again finds the layouts of a plan's islands on a pool whose chips have changed.
func (s *search) again(first combination, at int, do func(*plan.Hardware)) ([]combination, error) {
	other := s.alone()
	g := other.grounds[at]
	do(&g.hardware)
	if err := g.predict(s.q); err != nil {
		return nil, err
	}
	options := append([]*option(nil), first.options...)
	for i, o := range options {
		if o.ground != at {
			continue
		}
		f := g.fastest(o.chips, s.q.Task.Batch/first.choice.islands, first.choice.islands == 1)
		if !f.ok {
			return nil, nil
		}
		options[i] = other.option(at, o.chips, o.count, first.choice, f)
	}
	return []combination{other.price(first.choice, options)}, nil
}

// front is the cheapest plan for each of some times from the fastest to the cheapest.
func (s *search) front() []combination {
	if s.unpriced {
		return nil
	}
	t := s.goal()
	t.by, t.top = Time, 1
	fast := s.find(t)
	t.by = Cost
	cheap := s.find(t)
	if len(fast) == 0 || len(cheap) == 0 {
		return nil
	}
	all := []combination{fast[0]}
	const points = 9
	between := make([][]combination, points)
	s.q.Parallel(points, func(i int) {
		t := t
		t.deadline = fast[0].seconds * math.Pow(cheap[0].seconds/fast[0].seconds, float64(i)/points)
		between[i] = s.alone().find(t)
	})
	for _, one := range append(between, cheap) {
		if len(one) > 0 && one[0].cost < all[len(all)-1].cost {
			all = append(all, one[0])
		}
	}
	return all
}

// unused says why the first plan does without a pool.
func (s *search) unused(pool string, first combination) string {
	for at, g := range s.grounds {
		if g.name != pool {
			continue
		}
		if !g.path.ok && first.choice.islands > 1 {
			return "no link joins it to the syncers beside " + s.q.near() + ": state one under links, between " + pool + " and " + fleet.SyncersPlace
		}
		if first.choice.islands > 1 && s.crowded(g, g.chips) {
			return fmt.Sprintf("its hosts have %s, and an island beside others takes %s on each: host_memory", scaled(g.memory), scaled(s.onHost(g, g.chips)))
		}
		t := s.goal()
		t.top, t.with = 1, at+1
		with := s.find(t)
		if len(with) == 0 {
			return "no plan with it keeps what is asked for"
		}
		if s.unpriced {
			return fmt.Sprintf("the best plan with it takes %+.1f %%", 100*(with[0].seconds/first.seconds-1))
		}
		return fmt.Sprintf("the best plan with it costs %+.1f %% and takes %+.1f %%", 100*over(with[0].cost, first.cost), 100*(with[0].seconds/first.seconds-1))
	}
	return ""
}

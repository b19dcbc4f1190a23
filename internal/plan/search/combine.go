package search

import (
	"cmp"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/plan"
)

// combination is islands on some pools, priced.
type combination struct {
	choice  choice
	options []*option // in the order of the pools, none of a pool that is left out
	seconds float64
	cost    float64
}

// goal is what is looked for among combinations.
type goal struct {
	by       Objective
	deadline float64 // seconds; +Inf: none
	budget   float64 // +Inf: none
	top      int
	with     int // 1 + the place of a pool that has to take part; 0: none has to
}

// best is the order of combinations: by the objective, then by the other; then fewer islands,
// then fewer chips, then those of earlier pools.
func (t goal) best(a, b combination) int {
	x, y := []float64{a.cost, a.seconds}, []float64{b.cost, b.seconds}
	if t.by == Time {
		x, y = []float64{a.seconds, a.cost}, []float64{b.seconds, b.cost}
	}
	return cmp.Or(slices.Compare(x, y), slices.Compare(a.places(), b.places()))
}

// places are numbers that no two combinations share.
func (c combination) places() []int {
	all := []int{c.choice.islands, 0}
	for _, o := range c.options {
		all[1] += o.count * o.chips
		all = append(all, o.ground, o.count, o.chips)
	}
	return all
}

// price finds out what a combination takes.
func (s *search) price(c choice, options []*option) combination {
	batch, hourly, once := 0, s.hosts[c].hourly, 0.0
	for _, o := range options {
		batch += o.count * o.found.batch
		hourly += o.hourly
		once += o.once
	}
	each := float64(batch) * float64(s.q.Task.Sequence)
	tokens := math.Ceil(float64(s.q.Tokens)/each) * each
	periods := 0.0
	if c.period > 0 {
		periods = tokens / float64(c.period)
	}
	var space [16]plan.Flow
	flows := space[:0]
	for _, o := range options {
		flows = append(flows, plan.Flow{Rate: o.rate, Held: periods * o.boundary, Link: periods * o.transfer})
	}
	t := plan.Finish(tokens, flows)
	return combination{c, options, t, t/3600*hourly + periods*once}
}

// pick is the search for the best combinations of one choice by branch and bound.
type pick struct {
	*search
	goal
	choice  choice
	options [][]*option // by pool
	bound   *bound
	chosen  []*option
	top     []combination
	tried   int64
}

// pick finds the best combinations of a choice, at most as many as the goal wants.
func (s *search) pick(c choice, options [][]*option, t goal) ([]combination, int64) {
	p := pick{search: s, goal: t, choice: c, options: options}
	if !p.can() {
		return nil, 0
	}
	p.bound = newBound(options, c, float64(s.q.Tokens))
	for _, chosen := range p.bound.guesses() {
		p.chosen = chosen
		p.take()
	}
	p.chosen = nil
	p.bound.set(p.wanted())
	p.walk(0, c.islands, p.bound.begin(s.hosts[c].hourly/3600))
	return p.top, p.tried
}

// can says that there are islands enough.
func (p *pick) can() bool {
	most := 0
	for _, some := range p.options {
		here := 0
		for _, o := range some {
			here = max(here, o.count)
		}
		most += here
	}
	return most >= p.choice.islands
}

// wanted is the most that a combination may cost and take to be among the best.
func (p *pick) wanted() (cost, seconds float64) {
	cost, seconds = p.budget, p.deadline
	if len(p.top) == p.goal.top {
		if last := p.top[len(p.top)-1]; p.by == Cost {
			cost = min(cost, last.cost)
		} else {
			seconds = min(seconds, last.seconds)
		}
	}
	return cost, seconds
}

// walk goes through the pools from one on, with islands left to place.
func (p *pick) walk(pool, left int, chosen state) {
	if p.bound.hopeless(&chosen, pool, left) {
		return
	}
	if pool == len(p.options) {
		p.take()
		return
	}
	if p.with != pool+1 {
		p.walk(pool+1, left, chosen)
	}
	for i, o := range p.options[pool] {
		if o.count <= left {
			p.chosen = append(p.chosen, o)
			p.walk(pool+1, left-o.count, p.bound.with(&chosen, pool, i))
			p.chosen = p.chosen[:len(p.chosen)-1]
		}
	}
}

// take prices what was chosen and keeps it if it is among the best.
func (p *pick) take() {
	p.tried++
	c := p.price(p.choice, p.chosen)
	if !p.keeps(c) || len(p.top) == p.goal.top && p.best(c, p.top[len(p.top)-1]) >= 0 {
		return
	}
	at, there := slices.BinarySearchFunc(p.top, c, p.best)
	if there {
		return // it was guessed
	}
	c.options = slices.Clone(c.options)
	p.top = slices.Insert(p.top, at, c)
	if len(p.top) > p.goal.top {
		p.top = p.top[:p.goal.top]
	}
	p.bound.tighten(p.wanted())
}

// keeps says whether a combination keeps what it has to.
func (t goal) keeps(c combination) bool {
	if t.with > 0 && !c.uses(t.with-1) {
		return false
	}
	for _, o := range c.options {
		if c.seconds > o.lasts {
			return false
		}
	}
	return c.seconds <= t.deadline && c.cost <= t.budget
}

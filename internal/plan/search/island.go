package search

import (
	"cmp"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

// found is the fastest layout of an island that fits its memory.
type found struct {
	frame
	step plan.Step
	rate float64 // tokens/s while it trains
	ok   bool
	// least is the memory of the most frugal layout in bytes, where none fits.
	least float64
	Counts
}

// rated is a frame, by its place, with the rate that no layout of it exceeds.
type rated struct {
	at   int
	most float64
}

// fastest finds the fastest layout that fits, the first in the order of less when several
// are as fast.
//
// What cannot fit or cannot be faster is passed over. That rests on properties of
// predictions, which the test against trying everything holds: recomputation never makes a
// step shorter, nor does another stage of ZeRO than 1; where layers are alike virtual stages
// shorten it by no more than the bubble, and take no less memory than none; of ZeRO 2 or 3
// takes the least, with a pipeline 1; and larger micro-batches take no less memory while they
// fill the pipeline. Unlike layers are dealt to ranks more evenly by virtual stages, so that
// there all of them are looked at.
func (g *ground) fastest(chips, batch int, exact bool) found {
	s := island{ground: g, models: map[int]*plan.Model{}}
	var all []frame
	var order []rated
	g.space.frames(chips, batch, exact, func(f frame) {
		s.Layouts += int64(len(g.space.stages(f)) * len(g.space.thrift(f)))
		if s.hopeless(f) || !s.holds(f) {
			return
		}
		order = append(order, rated{len(all), s.atMost(f)})
		all = append(all, f)
	})
	slices.SortFunc(order, func(a, b rated) int { return cmp.Or(cmp.Compare(b.most, a.most), a.at-b.at) })
	for _, r := range order {
		if s.ok && r.most < s.rate {
			break
		}
		f := all[r.at]
		for _, v := range g.space.stages(f) {
			f.VPP = v
			s.refine(f)
		}
	}
	return s.found
}

// island is the search for the layout of one.
type island struct {
	*ground
	found
	models map[int]*plan.Model // by batch
	full   frame               // the last that did not fit
}

// hopeless says that a frame is like the last that did not fit, of larger micro-batches.
func (s *island) hopeless(f frame) bool {
	a, b := f.Layout, s.full.Layout
	return a.TP == b.TP && a.CP == b.CP && a.PP == b.PP && a.EP == b.EP && a.ETP == b.ETP && a.MicroBatch > b.MicroBatch && f.batch/(a.DP*a.MicroBatch) >= a.PP &&
		len(s.space.telling(f)) <= len(s.space.telling(s.full))
}

// atMost is the rate that no layout of a frame that holds exceeds.
func (s *island) atMost(f frame) float64 {
	most, mode := 0.0, s.mode(f)
	for _, f.VPP = range s.space.telling(f) {
		step := s.time(f, mode)
		most = max(most, s.speed(f.batch, step.Seconds*(1-bubbles(&step))))
	}
	return most
}

func (s *island) of(batch int) *plan.Model {
	m, ok := s.models[batch]
	if !ok {
		m = s.model.For(batch)
		s.models[batch] = m
	}
	return m
}

// time is the step with a mode of recomputation and the stage of ZeRO that is never slower.
func (s *island) time(f frame, mode anatomy.Recompute) plan.Step {
	s.Steps++
	f.ZeRO, f.Recompute = 1, mode
	return s.of(f.batch).Time(f.Layout)
}

// bytes is the memory with a mode of recomputation and a stage of ZeRO.
func (s *island) bytes(f frame, mode anatomy.Recompute, zero int) float64 {
	s.Steps++
	f.ZeRO, f.Recompute = zero, mode
	return plan.Step{Memory: s.of(f.batch).Memory(f.Layout)}.Bytes()
}

// frugal is the least memory with a mode of recomputation: without a pipeline everything or
// all but weights shared, for gathered weights take a buffer.
func (s *island) frugal(f frame, mode anatomy.Recompute) float64 {
	if f.PP > 1 {
		return s.bytes(f, mode, 1)
	}
	least := s.bytes(f, mode, 2)
	if least > s.hardware.Room() {
		least = min(least, s.bytes(f, mode, 3))
	}
	return least
}

// leanest is the least memory of a frame with a mode of recomputation.
func (s *island) leanest(f frame, mode anatomy.Recompute) float64 {
	least := math.Inf(1)
	for _, f.VPP = range s.space.telling(f) {
		least = min(least, s.frugal(f, mode))
	}
	return least
}

// holds says whether the most frugal layout of a frame fits.
func (s *island) holds(f frame) bool {
	least := s.leanest(f, anatomy.FullLayers)
	if least <= s.hardware.Room() {
		return true
	}
	if s.full = f; s.least == 0 || least < s.least {
		s.least = least
	}
	return false
}

// mode is the least recomputation with which a frame that holds may fit.
func (s *island) mode(f frame) anatomy.Recompute {
	for _, mode := range anatomy.Recomputes() {
		if mode == anatomy.FullLayers || s.leanest(f, mode) <= s.hardware.Room() {
			return mode
		}
	}
	return anatomy.FullLayers
}

// refine tries the ways to save memory, what takes no time first.
func (s *island) refine(f frame) {
	for _, mode := range anatomy.Recomputes() {
		if quickest := s.time(f, mode); s.ok && s.speed(f.batch, quickest.Seconds) < s.rate {
			return
		}
		if s.frugal(f, mode) > s.hardware.Room() {
			continue
		}
		for _, t := range s.space.thrift(f) {
			if t.Recompute == mode && s.bytes(f, mode, t.ZeRO) <= s.hardware.Room() {
				f.ZeRO, f.Recompute = t.ZeRO, mode
				s.take(f)
			}
		}
	}
}

// take keeps a layout that fits if it is the best so far.
func (s *island) take(f frame) {
	s.Steps++
	step := s.of(f.batch).Step(f.Layout)
	rate := s.speed(f.batch, step.Seconds)
	if s.ok && (rate < s.rate || rate == s.rate && !less(f, s.frame)) {
		return
	}
	s.frame, s.step, s.rate, s.ok = f, step, rate, true
}

// bubbles is the part of a step that is bubble.
func bubbles(s *plan.Step) float64 {
	all := 0.0
	for _, t := range s.Terms {
		all += t
	}
	return s.Terms[plan.Bubble] / all
}

// speed is tokens/s.
func (g *ground) speed(batch int, seconds float64) float64 {
	return float64(batch) * float64(g.space.sequence) / seconds
}

// less orders layouts that are equally fast: the simpler first.
func less(a, b frame) bool {
	return slices.Compare(simple(a), simple(b)) < 0
}

func simple(f frame) []int {
	return []int{f.PP, f.TP, f.CP, f.EP, f.ETP, f.VPP, slices.Index(anatomy.Recomputes(), f.Recompute), f.ZeRO, f.MicroBatch, f.batch}
}

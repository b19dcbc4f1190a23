package search

import (
	"cmp"
	"slices"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

// Predictor says what a step takes.
type Predictor interface {
	Step(plan.Layout) plan.Step
	Time(plan.Layout) plan.Step // without memory
}

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

// rated is a frame with the rate that no layout of it exceeds.
type rated struct {
	frame
	most float64
}

// fastest finds the fastest layout that fits, the first in the order of less when several
// are as fast.
//
// A frame is given up when its bound is below what was found. The bound rests on three
// properties of predictions, which a test holds: saving memory (ZeRO beyond stage 2,
// recomputation) never makes a step shorter; virtual stages shorten it by no more than the
// bubble; and no layout of a frame takes less memory than frugal says.
func (g *ground) fastest(chips, batch int, exact bool) found {
	out := found{least: 0}
	var all []rated
	g.space.frames(chips, batch, exact, func(f frame) {
		out.Layouts += int64(len(g.space.stages(f)) * len(g.thrift))
		out.Steps++
		f.ZeRO = 2
		s := g.at(f.batch).Step(f.Layout)
		all = append(all, rated{f, g.rate(f.batch, s.Seconds*(1-bubbles(s)))})
	})
	slices.SortStableFunc(all, func(a, b rated) int { return cmp.Compare(b.most, a.most) })
	for _, r := range all {
		if out.ok && r.most < out.rate {
			break
		}
		for _, v := range g.space.stages(r.frame) {
			r.VPP = v
			g.refine(r.frame, &out)
		}
	}
	return out
}

// refine tries the ways to save memory.
func (g *ground) refine(f frame, out *found) {
	p := g.at(f.batch)
	if bytes := frugal(p, f, out); bytes > g.hardware.Memory {
		if out.least == 0 || bytes < out.least {
			out.least = bytes
		}
		return
	}
	for _, t := range g.thrift {
		f.ZeRO, f.Recompute = t.ZeRO, t.Recompute
		out.Steps++
		s := p.Step(f.Layout)
		rate := g.rate(f.batch, s.Seconds)
		if s.Bytes() > g.hardware.Memory || out.ok && (rate < out.rate || rate == out.rate && !less(f, out.frame)) {
			continue
		}
		out.frame, out.step, out.rate, out.ok = f, s, rate, true
	}
}

// frugal is the least memory of a frame with some virtual stages: with everything
// computed again, and everything or all but weights shared, for gathered weights take a buffer.
func frugal(p Predictor, f frame, out *found) float64 {
	f.Recompute, f.ZeRO = anatomy.FullLayers, 3
	all := p.Step(f.Layout).Bytes()
	f.ZeRO = 2
	out.Steps += 2
	return min(all, p.Step(f.Layout).Bytes())
}

// bubbles is the part of a step that is bubble.
func bubbles(s plan.Step) float64 {
	all := 0.0
	for _, t := range s.Terms {
		all += t
	}
	return s.Terms[plan.Bubble] / all
}

// rate is tokens/s.
func (g *ground) rate(batch int, seconds float64) float64 {
	return float64(batch) * float64(g.space.sequence) / seconds
}

// less orders layouts that are equally fast: the simpler first.
func less(a, b frame) bool {
	return slices.Compare(simple(a), simple(b)) < 0
}

func simple(f frame) []int {
	return []int{f.PP, f.TP, f.CP, f.EP, f.ETP, f.VPP, slices.Index(anatomy.Recomputes(), f.Recompute), f.ZeRO, f.MicroBatch, f.batch}
}

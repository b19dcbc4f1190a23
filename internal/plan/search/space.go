package search

import (
	"slices"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

// space is the grid of layouts of a task on a kind of chip; doc.go says what is in it.
type space struct {
	depth, sequence int
	tps, cps, eps   []int
	etps            map[int][]int    // by tp
	vpps            map[int][]int    // by pp: what divides the layers into stages of a size
	uneven          map[int][]int    // by pp: layers of each stage, where they are not dealt evenly
	thrifts         [2][]plan.Layout // with one stage, and with several
	kvCopies        bool
	alike           bool // all layers are
}

const (
	mostTP         = 16
	mostMicroBatch = 16
	leastContext   = 4096 // tokens that a context-parallel rank has at least
)

func newSpace(t plan.Task, h plan.Hardware, kvCopies bool) *space {
	s := &space{depth: t.Model.Depth(), sequence: t.Sequence, etps: map[int][]int{}, vpps: map[int][]int{}, uneven: map[int][]int{}, kvCopies: kvCopies,
		thrifts: [2][]plan.Layout{plan.Thrift(1), plan.Thrift(2)}}
	s.alike = !slices.ContainsFunc(t.Model.Layers, func(r anatomy.Run) bool { return r.Layer != t.Model.Layers[0].Layer })
	fits := func(l anatomy.Layout) bool {
		l.KVCopies = kvCopies
		return l.Check(t.Model) == nil
	}
	for tp := 1; tp <= min(mostTP, h.Group); tp++ {
		if !fits(anatomy.Layout{TP: tp, EP: 1, ETP: 1, PP: 1}) {
			continue
		}
		s.tps, s.etps[tp] = append(s.tps, tp), []int{1}
		if tp > 1 && fits(anatomy.Layout{TP: tp, EP: 1, ETP: tp, PP: 1}) {
			s.etps[tp] = []int{1, tp}
		}
	}
	for ep := 1; ep == 1 || ep <= experts(t.Model); ep++ {
		if fits(anatomy.Layout{TP: 1, EP: ep, ETP: 1, PP: 1}) {
			s.eps = append(s.eps, ep)
		}
	}
	for cp := 1; cp == 1 || t.Sequence%(2*cp) == 0 && t.Sequence/cp >= leastContext; cp *= 2 {
		s.cps = append(s.cps, cp)
	}
	for pp := 1; pp <= s.depth; pp++ {
		s.vpps[pp], s.uneven[pp] = plan.VirtualStages(s.depth, pp), plan.EndsShort(s.depth, pp)
	}
	return s
}

// experts is the most that a layer has.
func experts(d anatomy.Decoder) int {
	n := 1
	for _, r := range d.Layers {
		if r.Experts != nil {
			n = max(n, r.Experts.Count)
		}
	}
	return n
}

// frame is a layout without what is chosen last: virtual stages, ZeRO, recomputation.
type frame struct {
	plan.Layout
	batch int // sequences of a step of the island
}

// frames are those of an island of some chips. Of a lone island the batch is exact; of
// several each takes the largest that its layout divides.
func (s *space) frames(chips, batch int, exact bool, visit func(frame)) {
	for _, tp := range s.tps {
		for _, cp := range s.cps {
			for pp := 1; pp <= s.depth && tp*cp*pp <= chips; pp++ {
				dp := chips / (tp * cp * pp)
				if tp*cp*pp*dp != chips {
					continue
				}
				for _, etp := range s.etps[tp] {
					for _, ep := range s.eps {
						if tp*cp*dp%(ep*etp) == 0 {
							l := plan.Layout{Layout: anatomy.Layout{TP: tp, EP: ep, ETP: etp, PP: pp, KVCopies: s.kvCopies}, DP: dp, CP: cp, VPP: 1, Stages: s.uneven[pp]}
							batches(l, batch, exact, visit)
						}
					}
				}
			}
		}
	}
}

// batches are the frames of a layout by its micro-batch.
func batches(l plan.Layout, batch int, exact bool, visit func(frame)) {
	for micro := 1; micro <= mostMicroBatch && l.DP*micro <= batch; micro *= 2 {
		if exact && batch%(l.DP*micro) != 0 {
			return
		}
		l.MicroBatch = micro
		visit(frame{l, batch / (l.DP * micro) * l.DP * micro})
	}
}

// stages are the numbers of virtual stages that a frame can have. An interleaved
// schedule goes through the stages with as many micro-batches at a time as there are ranks.
func (s *space) stages(f frame) []int {
	if f.batch/(f.DP*f.MicroBatch)%f.PP != 0 {
		return s.vpps[f.PP][:1]
	}
	return s.vpps[f.PP]
}

// telling are those of them that tell what memory and time all need at least.
func (s *space) telling(f frame) []int {
	if s.alike {
		return s.vpps[f.PP][:1]
	}
	return s.stages(f)
}

// thrift are the ways in which a frame can save memory.
func (s *space) thrift(f frame) []plan.Layout { return s.thrifts[min(1, f.PP-1)] }

// sizes are the chips that an island may have in a pool: one, two, four and so on within a
// host, whole hosts in numbers of 2ⁿ and 3·2ⁿ, and equal parts of the pool in whole hosts.
func sizes(chips, host, islands int) []int {
	is := map[int]bool{chips: true}
	for n := 1; n < host; n *= 2 {
		is[n] = true
	}
	for n := 1; n*host <= chips; n *= 2 {
		is[n*host], is[3*n*host] = true, true
	}
	for parts := 1; parts <= islands; parts++ {
		is[chips/parts/host*host] = true
	}
	var all []int
	for n := 1; n <= chips; n++ {
		if is[n] {
			all = append(all, n)
		}
	}
	return all
}

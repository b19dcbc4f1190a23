package plan

import (
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// memoryTable answers what the fullest rank of a layout holds. Everything that takes
// words and long sums is done once, by newMemory; of only multiplies. It is read-only
// then.
type memoryTable struct {
	task    Task
	habits  habits
	uniform bool            // all layers take the same memory
	byTP    map[int]*shares // of every number of tensor-parallel ranks that the model can have
}

// newMemory prepares a task. The chip does not matter: what a driver takes is a
// constant.
func newMemory(t Task, _ Hardware) memoryTable {
	m := memoryTable{task: t, habits: habitsOf(t.Stack), uniform: true, byTP: map[int]*shares{}}
	heads := t.Model.Layers[0].Attention.Heads
	for tp := 1; tp <= heads; tp++ {
		if heads%tp == 0 {
			m.byTP[tp] = sharesOf(t, m.habits, tp)
		}
	}
	first := memoryOf(t.Model.Layers[0].Layer)
	for _, r := range t.Model.Layers {
		m.uniform = m.uniform && memoryOf(r.Layer) == first
	}
	return m
}

// memoryOf is what of a layer takes memory, to be compared.
func memoryOf(l anatomy.Layer) anatomy.Layer {
	l.Attention.Window = 0
	return l
}

// of is the memory of the fullest rank by parts. A layout that the model cannot have
// has none that is known.
func (m *memoryTable) of(l Layout) [Parts]float64 {
	s, ok := m.byTP[l.TP]
	if !ok {
		return unknownParts()
	}
	a := m.ask(s, l)
	_, most := a.fullest()
	return a.parts(most)
}

func unknownParts() (p [Parts]float64) {
	for i := range p {
		p[i] = math.NaN()
	}
	return p
}

// asked is a layout with what all its ranks have in common.
type asked struct {
	*memoryTable
	*shares
	l                 Layout
	mode              int     // of recomputation
	whole             int     // 1: without sequence parallelism
	micros            int     // micro-batches of a rank
	tokens            float64 // of one, on the ranks that share it
	experts, replicas struct{ dense, routed float64 }
}

func (m *memoryTable) ask(s *shares, l Layout) asked {
	a := asked{memoryTable: m, shares: s, l: l, mode: modeIndex(l.Recompute), micros: max(1, m.task.Batch/(l.DP*l.MicroBatch)),
		tokens: float64(m.task.Sequence) * float64(l.MicroBatch) / float64(l.CP)}
	if l.Whole {
		a.whole = 1
	}
	r := l.Replicas(l.DP * l.CP)
	a.replicas.dense, a.replicas.routed = float64(r.Dense), float64(max(1, r.Routed))
	return a
}

// modeIndex is the place of a mode in the arrays. What is not stated recomputes
// nothing.
func modeIndex(r anatomy.Recompute) int {
	switch r {
	case anatomy.Selective:
		return 1
	case anatomy.FullLayers:
		return 2
	}
	return 0
}

// load is what one rank holds: parameters, and bytes of activations of all
// micro-batches under way.
type load struct{ dense, routed, kept, logits float64 }

// fullest finds the rank with the most bytes. Ranks with equal layers hold fewer
// micro-batches the later they stand, so that of layers all alike three ranks are looked at: the
// first, the first of those that have a layer more, and the last with its head.
func (a *asked) fullest() (rank int, most load) {
	if a.l.PP == 1 {
		return 0, a.rank(0)
	}
	best := math.Inf(-1)
	try := func(i int) {
		r := a.rank(i)
		if n := a.bytes(r); n > best {
			best, rank, most = n, i, r
		}
	}
	if a.uniform && a.l.Stages == nil {
		stages := a.l.PP * a.l.VPP
		longer := (stages - (len(a.sums)-1)%stages) % a.l.PP
		try(0)
		try(longer)
		try(a.l.PP - 1)
		return rank, most
	}
	for i := range a.l.PP {
		try(i)
	}
	return rank, most
}

// rank is what a rank of the pipeline holds.
func (a *asked) rank(i int) load {
	var r load
	for v := range a.l.VPP {
		from, to := a.layers(i, v)
		flight := float64(inFlight(a.l.PP, a.l.VPP, a.micros, i, v)) * a.tokens
		r.add(a, &a.sums[from], &a.sums[to], flight)
	}
	switch {
	case a.l.PP == 1:
		r.end(a, &a.both, 1)
	case i == 0:
		r.end(a, &a.first, float64(inFlight(a.l.PP, a.l.VPP, a.micros, i, 0)))
	case i == a.l.PP-1:
		r.end(a, &a.final, float64(inFlight(a.l.PP, a.l.VPP, a.micros, i, a.l.VPP-1)))
	}
	return r
}

// add adds the layers between two sums.
func (r *load) add(a *asked, from, to *layerSums, flight float64) {
	r.dense += to.dense - from.dense
	r.routed += to.routed - from.routed
	kept := to.kept[a.mode][a.whole] - from.kept[a.mode][a.whole]
	if a.mode != modeIndex(anatomy.FullLayers) {
		kept += a.imbalance * (to.inner - from.inner + float64(a.l.ETP)*(to.ends-from.ends))
	}
	r.kept += flight * kept
}

// end adds an end of the model.
func (r *load) end(a *asked, e *endShares, flight float64) {
	r.dense += e.dense
	r.routed += e.routed
	r.kept += flight * a.tokens * e.kept[a.whole]
	r.logits += flight * a.tokens * e.logits[a.whole]
}

// layers are those of a virtual stage, the last not included: dealt evenly, later ones
// taking one more, as anatomy's Stages are; or as the layout says, evenly among a rank's
// virtual stages.
func (a *asked) layers(rank, virtual int) (from, to int) {
	if a.l.Stages == nil {
		stages, n := a.l.PP*a.l.VPP, virtual*a.l.PP+rank
		return dealt(len(a.sums)-1, stages, n), dealt(len(a.sums)-1, stages, n+1)
	}
	before := 0
	for _, n := range a.l.Stages[:rank] {
		before += n
	}
	n := a.l.Stages[rank]
	return before + dealt(n, a.l.VPP, virtual), before + dealt(n, a.l.VPP, virtual+1)
}

// dealt is how many of n layers lie before a stage.
func dealt(n, stages, stage int) int {
	longer := stages - n%stages
	return stage*(n/stages) + max(0, stage-longer)
}

// inFlight is how many micro-batches a virtual stage holds when its rank holds most. In
// 1F1B a rank runs ahead by as many as stages follow (Narayanan et al., arXiv
// 2104.04473, section 2.2.1). Interleaved, by 2 (stages that follow) + (virtual - 1) pp and one more
// passes of a virtual stage, of which pp go through each in turn (section 2.2.2, and
// Korthikanti et al., arXiv 2205.05198, section 4.2.3: 1 + (p - 1)/(p m) times the layers on the first).
func inFlight(pp, vpp, micros, rank, virtual int) int {
	if vpp == 1 {
		return min(pp-rank, micros)
	}
	passes := 2*(pp-rank-1) + (vpp-1)*pp + 1
	if passes >= micros*vpp {
		return micros
	}
	return passes/(pp*vpp)*pp + min(max(passes%(pp*vpp)-virtual*pp, 0), pp)
}

package plan

import (
	"math"
)

// memoryTable answers what the fullest rank of a layout holds. Everything that takes
// words and long sums is done once, by newMemory; of only multiplies. It is read-only
// then.
type memoryTable struct {
	task    Task
	habits  habits
	uniform bool            // all layers take the same memory
	byTP    map[int]*shares // of every number of tensor-parallel ranks that the model can have

	context, gaps float64 // constants
}

// newMemory prepares a task. The chip does not matter: what a driver takes is a
// constant.
func newMemory(t Task) memoryTable {
	m := memoryTable{task: t, habits: habitsOf(t), uniform: true, byTP: map[int]*shares{}}
	k := MemoryConstants()
	m.context, m.gaps = k.of("context").Value, k.of("gaps").Value
	heads := t.Model.Layers[0].Attention.Heads
	for tp := 1; tp <= heads; tp++ {
		if heads%tp != 0 { // a refusal is dear
			continue
		}
		if one := alone(tp); one.Check(t.Model) == nil {
			m.byTP[tp] = sharesOf(t, m.habits, one)
		}
	}
	first := t.Model.Layers[0].Layer
	for _, r := range t.Model.Layers {
		r.Attention.Window = first.Attention.Window // takes no memory
		m.uniform = m.uniform && r.Layer == first
	}
	return m
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
	virtual           int     // stages of a rank
	mode              mode    // of recomputation
	whole             int     // 1: without sequence parallelism
	micros            int     // micro-batches of a rank
	tokens            float64 // of one, on the ranks that share it
	experts           float64 // ranks that share the experts
	dense, routed     float64 // replicas of parameters
	byDense, byRouted float64 // bytes of a parameter on a rank, shares not rounded up
	work              float64 // bytes of a layer's backward pass
}

func (m *memoryTable) ask(s *shares, l Layout) asked {
	a := asked{memoryTable: m, shares: s, l: l, virtual: max(1, l.VPP), mode: m.habits.modeOf(l.Recompute), micros: max(1, m.task.Batch/(l.DP*l.MicroBatch)),
		tokens: float64(m.task.Sequence) * float64(l.MicroBatch) / float64(l.CP), experts: float64(l.EP) * float64(l.ETP)}
	if l.Whole || m.habits.whole {
		a.whole = 1
	}
	r := l.Replicas(l.DP * l.CP)
	a.dense, a.routed = float64(r.Dense), float64(max(1, r.Routed))
	a.byDense, a.byRouted = m.habits.flat, m.habits.flat
	for _, s := range a.states() {
		if s.shared {
			a.byDense += s.bytes / a.dense
			a.byRouted += s.bytes / a.routed
		} else {
			a.byDense += s.bytes
			a.byRouted += s.bytes
		}
	}
	a.work = a.backward()
	return a
}

// load is what one rank holds: parameters, bytes of activations of all micro-batches
// under way, and of the head.
type load struct{ dense, routed, kept, head float64 }

// bytes is the memory of a load but for what all ranks have alike: to compare ranks
// by. Of the head's loss and a layer's backward pass one comes after the other.
func (a *asked) bytes(r load) float64 {
	return a.byDense*r.dense + a.byRouted*r.routed/a.experts + r.kept + max(r.head, a.work)
}

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
		stages := a.l.PP * a.virtual
		try(0)
		try((stages - (len(a.sums)-1)%stages) % a.l.PP)
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
	for v := range a.virtual {
		from, to := a.layers(i, v)
		r.add(a, &a.sums[from], &a.sums[to], a.passes(i, v)*a.tokens)
	}
	switch {
	case a.l.PP == 1:
		r.end(a, &a.both, a.tokens)
	case i == 0:
		r.end(a, &a.first, a.passes(i, 0)*a.tokens)
	case i == a.l.PP-1:
		r.end(a, &a.final, a.passes(i, a.virtual-1)*a.tokens)
	}
	return r
}

func (a *asked) passes(rank, virtual int) float64 {
	return float64(inFlight(a.l.PP, a.virtual, a.micros, rank, virtual))
}

// add adds the layers between two sums, with so many tokens under way.
func (r *load) add(a *asked, from, to *layerSums, tokens float64) {
	r.dense += to.dense - from.dense
	r.routed += to.routed - from.routed
	kept := to.kept[a.mode][a.whole] - from.kept[a.mode][a.whole]
	experts := to.inner[a.mode] - from.inner[a.mode] + float64(a.l.ETP)*(to.ends[a.mode]-from.ends[a.mode])
	r.kept += tokens * (kept + a.imbalance*experts)
}

// end adds an end of the model.
func (r *load) end(a *asked, e *endShares, tokens float64) {
	r.add(a, &layerSums{}, &e.layerSums, tokens)
	r.head += tokens * e.head[a.whole]
}

// layers are those of a virtual stage, the last not included: dealt evenly, later ones
// taking one more, as anatomy's Stages are; or as the layout says, evenly among a rank's
// virtual stages.
func (a *asked) layers(rank, virtual int) (from, to int) {
	if a.l.Stages == nil {
		stages, n := a.l.PP*a.virtual, virtual*a.l.PP+rank
		return dealt(len(a.sums)-1, stages, n), dealt(len(a.sums)-1, stages, n+1)
	}
	before := 0
	for _, n := range a.l.Stages[:rank] {
		before += n
	}
	n := a.l.Stages[rank]
	return before + dealt(n, a.virtual, virtual), before + dealt(n, a.virtual, virtual+1)
}

// dealt is how many of n layers lie before a stage.
func dealt(n, stages, stage int) int {
	longer := stages - n%stages
	return stage*(n/stages) + max(0, stage-longer)
}

// inFlight is how many micro-batches a virtual stage holds when its rank first holds most of
// all, which is the worst moment unless the first virtual stage is the heaviest. In
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

package plan

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
)

// Model predicts layouts of one task on one kind of chip. It is read only.
type Model struct {
	task    Task
	chip    Hardware
	c       coefficients
	kinds   []anatomy.Run
	order   []run // the layers as they stand
	depth   int
	shapes  map[shard]*shapes
	shards  map[shard]*sharded
	memory  memoryTable
	low     float64 // of the range, of a step
	high    float64
	Assumed []string // what constants of other chips stand in for
}

// mostKinds is how many kinds of layers a model may have.
const mostKinds = 8

// run is a number of equal layers, by their place among the kinds.
type run struct{ count, kind int }

// shard is a tensor-parallel degree, with or without sequence parallelism.
type shard struct {
	tp    int
	whole bool
}

// shapes is what of their time no constant changes.
type shapes struct {
	layers             []layerShape
	vocabulary, hidden float64
}

// sharded is what ranks of a shard take.
type sharded struct {
	layers []layerTime
	head   passes
	ends   float64 // parameters of embedding, and of the head where it is another
}

// Prepare makes the model, for all tensor-parallel degrees that the model can have.
// What cannot be predicted is a *fault.Input.
func Prepare(t Task, h Hardware, k Constants) (*Model, error) {
	var degrees []int
	heads := t.Model.Layers[0].Attention.Heads
	for tp := 1; tp <= heads; tp++ {
		if heads%tp == 0 { // a refusal is dear
			degrees = append(degrees, tp)
		}
	}
	return PrepareFor(t, h, k, degrees...)
}

// PrepareFor makes the model for some tensor-parallel degrees.
func PrepareFor(t Task, h Hardware, k Constants, degrees ...int) (*Model, error) {
	if t.Format == "" {
		t.Format = "bf16"
	}
	if h.Peak[t.Format] == 0 || h.Peak[wide(t.Format)] == 0 {
		return nil, &fault.Input{Where: h.Chip, Value: t.Format, Problem: "has no peak of this format that is known", Next: "choose another format, or state the peak"}
	}
	if t.Stack == "" {
		t.Stack = h.Usual()
	}
	m := &Model{task: t, chip: h, depth: t.Model.Depth(), kinds: t.Model.Kinds(), shapes: map[shard]*shapes{}}
	if len(m.kinds) > mostKinds {
		return nil, &fault.Input{Where: t.Model.Name, Value: strconv.Itoa(len(m.kinds)), Problem: "kinds of layers are more than can be told apart", Next: fmt.Sprintf("at most %d", mostKinds)}
	}
	at := map[anatomy.Layer]int{}
	for i, kind := range m.kinds {
		at[kind.Layer] = i
	}
	for _, r := range t.Model.Layers {
		m.order = append(m.order, run{r.Count, at[r.Layer]})
	}
	for _, tp := range degrees {
		m.shape(shard{tp, false})
		m.shape(shard{tp, true})
	}
	m.memory = newMemory(t, h)
	return m.With(k), nil
}

// shape counts what ranks of a tensor-parallel group have, if the model can be cut so.
func (m *Model) shape(at shard) {
	lay := anatomy.Layout{TP: at.tp, EP: 1, ETP: 1, PP: 1, KVCopies: true, Whole: at.whole}
	if m.shapes[at] != nil || lay.Check(m.task.Model) != nil {
		return
	}
	s := &shapes{vocabulary: float64(lay.For(m.task.Model).Vocab) / float64(at.tp), hidden: float64(m.task.Model.Hidden)}
	for _, k := range m.kinds {
		s.layers = append(s.layers, newLayerShape(m.task, k, at.tp, at.whole))
	}
	m.shapes[at] = s
}

// With is the model with other constants.
func (m *Model) With(k Constants) *Model {
	out := *m
	out.c, out.Assumed = k.coefficients(m.task, m.chip)
	scope := kindOf(m.task)
	if len(out.Assumed) > 0 {
		scope = "other"
	}
	spread := math.Exp(k.Of("range." + scope).Value)
	out.low, out.high = 1/spread, spread
	if r := m.chip.Share; r != nil { // stated by the user: work goes with it
		out.low, out.high = out.low*r.Mid/r.High, out.high*r.Mid/r.Low
	}
	out.shards = map[shard]*sharded{}
	for at, s := range m.shapes {
		out.shards[at] = out.sharded(s)
	}
	return &out
}

// sharded says what the ranks of a tensor-parallel group take.
func (m *Model) sharded(of *shapes) *sharded {
	s := &sharded{head: m.c.multiply(wide(m.task.Format), matrix{of.hidden, of.vocabulary}), ends: of.vocabulary * of.hidden}
	logits := m.c.byteTime * 8 * of.vocabulary // read and written in fp32
	s.head.forward.token += logits
	s.head.backward.token += logits
	for _, l := range of.layers {
		s.layers = append(s.layers, l.time(m.task, m.c))
	}
	last, once := s.layers[m.order[len(m.order)-1].kind], s.head
	for range m.task.Model.MTP {
		s.head = s.head.plus(once).plus(last.products).plus(last.scores).plus(last.moved)
	}
	return s
}

// micro is what a micro-batch takes on a stage, by term, both passes.
type micro struct {
	terms [Terms]float64
	sum   float64
}

// Step predicts a layout that Check lets pass. It allocates nothing.
func (m *Model) Step(l Layout) Step {
	out := m.Time(l)
	out.Memory = m.memory.of(l)
	return out
}

// Time is a step without its memory.
func (m *Model) Time(l Layout) Step {
	s := m.shards[shard{l.TP, l.Whole}]
	tokens := float64(l.MicroBatch) * float64(m.task.Sequence) / float64(l.CP)
	batches := float64(m.task.Batch) / float64(l.DP*l.MicroBatch)
	longest, all := m.stages(s, l, tokens)
	var out Step
	for i := range out.Terms {
		out.Terms[i] = longest.terms[i] * batches
	}
	vpp := float64(max(1, l.VPP))
	out.Terms[Bubble] = (all - longest.sum) / vpp
	if l.PP > 1 {
		out.Terms[StageTraffic] = m.passing(l, tokens) * batches * vpp
	}
	out.Terms[DataTraffic] = m.replicas(s, l, longest.sum, batches)
	out.Terms[Optimizer] = m.optimizer(s, l)
	work := 0.0
	for _, t := range out.Terms {
		work += t
	}
	hosts := float64(l.Chips()) / float64(m.chip.NodeChips)
	stretch := m.c.factor * (1 + m.c.scale*math.Log2(max(1, hosts)))
	for i := range out.Terms {
		out.Terms[i] *= m.c.factor
	}
	out.Terms[Overhead] += work * (stretch - m.c.factor)
	out.Seconds = work * stretch
	out.Low, out.High = out.Seconds*m.low, out.Seconds*m.high
	return out
}

// stages gives what a micro-batch takes on the slowest stage, and on all of them.
func (m *Model) stages(s *sharded, l Layout, tokens float64) (longest micro, all float64) {
	var kinds [mostKinds]micro
	for i := range s.layers {
		kinds[i] = m.layer(&s.layers[i], l, tokens)
	}
	head := s.head.forward.at(tokens) + s.head.backward.at(tokens)
	var most [mostKinds]int // layers of the slowest stage, by kind
	final := false
	at, left, sum := 0, m.order[0].count, 0.0
	for stage := range l.PP {
		this, counts := 0.0, [mostKinds]int{}
		for n := m.layersOf(l, stage); n > 0; {
			if left == 0 {
				at++
				left = m.order[at].count
			}
			k := min(n, left)
			counts[m.order[at].kind] += k
			this += float64(k) * kinds[m.order[at].kind].sum
			n, left = n-k, left-k
		}
		if stage == l.PP-1 {
			this += head
		}
		all += this
		if this > sum {
			sum, most, final = this, counts, stage == l.PP-1
		}
	}
	for kind := range s.layers {
		longest.add(&kinds[kind], float64(most[kind]))
	}
	if final {
		longest.terms[Head] += head
		longest.sum += head
	}
	return longest, all
}

// layersOf counts the layers of a stage: even, later stages longer by one where they do
// not divide (anatomy's Stages), unless the layout says.
func (m *Model) layersOf(l Layout, stage int) int {
	if l.Stages != nil {
		return l.Stages[stage]
	}
	n := m.depth / l.PP
	if stage >= l.PP-m.depth%l.PP {
		n++
	}
	return n
}

func (a *micro) add(b *micro, times float64) {
	for i := range a.terms {
		a.terms[i] += times * b.terms[i]
	}
	a.sum += times * b.sum
}

// layer is what a layer takes of a micro-batch.
func (m *Model) layer(t *layerTime, l Layout, tokens float64) (out micro) {
	c := &m.c
	forwardProducts, forwardScores, forwardMoved := t.products.forward.at(tokens), t.scores.forward.at(tokens), t.moved.forward.at(tokens)
	out.terms[Products] = forwardProducts + t.products.backward.at(tokens)
	out.terms[Attention] = forwardScores + t.scores.backward.at(tokens)
	out.terms[Elementwise] = forwardMoved + t.moved.backward.at(tokens)
	out.terms[Overhead] = 2 * c.launch
	forwardExperts := 0.0
	if t.expertCount > 0 {
		calls := t.expertCount / float64(l.EP*l.ETP)
		imbalance := max(1, m.task.Imbalance)
		forwardExperts = t.experts.forward.call*calls + t.experts.forward.token*tokens*imbalance
		out.terms[ExpertProducts] = forwardExperts + t.experts.backward.call*calls + t.experts.backward.token*tokens*imbalance
		out.terms[ExpertTraffic] = 4 * c.ep * m.allToAll(t, l, tokens*imbalance)
	}
	traffic := [2]float64{}
	if l.TP > 1 {
		per, hop := m.ring(l.TP, 1), c.hop*float64(l.TP-1)
		for i := range traffic {
			traffic[i] = c.tp * (t.tensorBytes[i]*tokens*per + t.tensorCalls[i]*hop)
		}
		out.terms[TensorTraffic] = traffic[0] + traffic[1]
	}
	if l.CP > 1 {
		out.terms[ContextTraffic] = m.context(t, l, tokens, out.terms[Attention])
	}
	switch l.Recompute {
	case anatomy.FullLayers:
		out.terms[Recomputed] = forwardProducts + forwardScores + forwardMoved + forwardExperts + traffic[0] + c.launch
		if t.expertCount > 0 {
			out.terms[Recomputed] += out.terms[ExpertTraffic] / 2
		}
	case anatomy.Selective:
		switch {
		case c.unfused:
			out.terms[Recomputed] = forwardScores
		case m.task.Stack == Titan: // "selective op" keeps scores and every second product
			out.terms[Recomputed] = forwardProducts/2 + forwardMoved
		}
	}
	for _, x := range out.terms {
		out.sum += x
	}
	return out
}

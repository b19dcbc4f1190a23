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
	Assumed []string // constants of what chips reach that were not fitted to this one, with their values
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
	tp                 int
	layers             []layerShape
	vocabulary, hidden float64
}

// sharded is what ranks of a shard take.
type sharded struct {
	layers  []layerTime
	head    passes  // of the model and its MTP modules
	ends    float64 // parameters of embedding, and of the head where it is another
	modules float64 // parameters of MTP modules beside their layers
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
	m.memory = newMemory(t)
	return m.With(k), nil
}

// shape counts what ranks of a tensor-parallel group have, if the model can be cut so.
func (m *Model) shape(at shard) {
	lay := anatomy.Layout{TP: at.tp, EP: 1, ETP: 1, PP: 1, KVCopies: true, Whole: at.whole}
	if m.shapes[at] != nil || lay.Check(m.task.Model) != nil {
		return
	}
	s := &shapes{tp: at.tp, vocabulary: float64(lay.For(m.task.Model).Vocab) / float64(at.tp), hidden: float64(m.task.Model.Hidden)}
	for _, k := range m.kinds {
		s.layers = append(s.layers, newLayerShape(m.task, k, at.tp, at.whole))
	}
	m.shapes[at] = s
}

// With is the model with other constants.
func (m *Model) With(k Constants) *Model {
	out := *m
	out.c, out.Assumed = k.coefficients(m.task, m.chip)
	spread := math.Exp(k.spread(m.task, m.chip))
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
	s := &sharded{head: m.c.widened().multiply(wide(m.task.Format), matrix{of.hidden, of.vocabulary}), ends: of.vocabulary * of.hidden}
	logits := m.c.byteTime * 8 * of.vocabulary // read and written in fp32
	s.head.forward.token += logits
	s.head.backward.token += logits
	for _, l := range of.layers {
		s.layers = append(s.layers, l.time(m.task, m.c))
	}
	once, join := s.head, matrix{2 * of.hidden, of.hidden / float64(of.tp)}
	for range m.task.Model.MTP { // joins stream and embedding, and has a head of its own
		s.head = s.head.plus(once).plus(m.c.multiply(m.task.Format, join))
		s.modules += join.in * join.out
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
	longest, all := m.stages(s, &l, tokens)
	var out Step
	for i := range out.Terms {
		out.Terms[i] = longest.terms[i] * batches
	}
	vpp := float64(max(1, l.VPP))
	out.Terms[Bubble] = bubble(longest.sum, all, vpp)
	if l.PP > 1 {
		out.Terms[StageTraffic] = m.passing(l, tokens) * batches * vpp
	}
	dense, routed := m.held(s, &l)
	out.Terms[DataTraffic] = m.replicas(dense, routed, l, longest.sum, batches)
	out.Terms[Optimizer] = m.optimizer(dense, routed, l)
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

// bubble is what a step takes beside the slowest stage's micro-batches: those pass once through
// all other stages, or, interleaved, through a virtual stage of each (Narayanan et al.,
// arXiv 2104.04473, section 2.2).
func bubble(longest, all, virtual float64) float64 { return (all - longest) / virtual }

// stages gives what a micro-batch takes on the slowest stage, and on all of them.
func (m *Model) stages(s *sharded, l *Layout, tokens float64) (longest micro, all float64) {
	var kinds [mostKinds]micro
	for i := range s.layers {
		kinds[i] = m.layer(&s.layers[i], *l, tokens)
	}
	head := s.head.forward.at(tokens) + s.head.backward.at(tokens)
	var most [mostKinds]int // layers of the slowest stage, by kind
	final, sum := false, 0.0
	w := m.walk(l)
	for stage := range l.PP {
		this, counts := 0.0, w.next()
		for kind := range s.layers {
			this += float64(counts[kind]) * kinds[kind].sum
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

// walk goes through a layout's stages.
type walk struct {
	*Model
	l               *Layout
	stage, at, left int // of the layers' order, and what is left of its run
}

func (m *Model) walk(l *Layout) walk { return walk{Model: m, l: l, left: m.order[0].count} }

// next counts the layers of the next stage by kind, MTP modules' on the last one too.
func (w *walk) next() (counts [mostKinds]int) {
	for n := w.layersOf(w.l, w.stage); n > 0; {
		if w.left == 0 {
			w.at++
			w.left = w.order[w.at].count
		}
		k := min(n, w.left)
		counts[w.order[w.at].kind] += k
		n, w.left = n-k, w.left-k
	}
	if w.stage++; w.stage == w.l.PP {
		counts[w.order[len(w.order)-1].kind] += w.task.Model.MTP
	}
	return counts
}

// layersOf counts the layers of a stage: even, later stages longer by one where they do
// not divide (anatomy's Stages), unless the layout says.
func (m *Model) layersOf(l *Layout, stage int) int {
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
		experts := t.expertCount / float64(l.EP) // of the rank, or shares of them
		chosen := tokens * max(1, m.task.Imbalance)
		forwardExperts = experts*(t.experts.forward.call/float64(l.ETP)+c.grouped) + t.experts.forward.token*chosen
		out.terms[ExpertProducts] = forwardExperts + experts*(t.experts.backward.call/float64(l.ETP)+2*c.grouped) + t.experts.backward.token*chosen
		out.terms[ExpertTraffic] = 4 * c.ep * m.toExperts(t, l, chosen)
	}
	traffic := [2]float64{}
	if l.TP > 1 {
		per, hop := m.ring(l.TP, 1), c.hop*float64(l.TP-1)
		for i := range traffic {
			traffic[i] = c.tp * (t.tensorBytes[i]*tokens*per + t.tensorCalls[i]*hop)
		}
		out.terms[TensorTraffic] = traffic[0] + traffic[1]
	}
	context := 0.0 // forward
	if l.CP > 1 {
		context = m.context(t, l, 1, tokens, forwardScores)
		out.terms[ContextTraffic] = context + m.context(t, l, 2, tokens, out.terms[Attention]-forwardScores)
	}
	switch mode := m.memory.habits.modeOf(l.Recompute); {
	case mode == keepInputs:
		out.terms[Recomputed] = forwardProducts + forwardScores + forwardMoved + forwardExperts + traffic[0] + out.terms[ExpertTraffic]/2 + context + c.launch
	case mode == keepOperators: // every second product is kept, and what comes of attention and experts' ways
		out.terms[Recomputed] = (forwardProducts+forwardExperts)/2 + forwardMoved
	case mode == keepSelected && c.unfused:
		out.terms[Recomputed] = forwardScores
	}
	for _, x := range out.terms {
		out.sum += x
	}
	return out
}

package plan

import (
	_ "embed" // the constants
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// state is bytes of a parameter, whole or shared among its replicas.
type state struct {
	bytes  float64
	shared bool
}

// states are weights, gradients, masters and moments of a rank. Shards of FSDP are the
// masters, and a pipeline leaves weights gathered and gradients in one piece from the first
// micro-batch to the last, for it would gather them for each (torchtitan's parallelize_llama).
func (a *asked) states() [4]state {
	f, zero := a.habits.formats, a.l.ZeRO
	s := [4]state{{float64(f.Weight), zero > 2}, {float64(f.Gradient), zero > 1}, {float64(f.Master), zero > 0}, {float64(f.Moments), zero > 0}}
	if !a.habits.sharded || zero < 3 {
		return s
	}
	if a.l.PP > 1 {
		s[0].shared, s[1].shared = false, false
	} else if f.Master > 0 {
		s[0].bytes = 0
	}
	return s
}

// parts is the memory of a load by parts.
func (a *asked) parts(r load) (p [Parts]float64) {
	routed := r.routed / a.experts
	share := math.Ceil(r.dense/a.dense) + math.Ceil(routed/a.routed)
	for i, s := range a.states() {
		if p[i] = s.bytes * (r.dense + routed); s.shared {
			p[i] = s.bytes * share
		}
	}
	p[Activations], p[Logits] = r.kept, r.head
	p[Buffers] = a.gatheredWeights() + a.habits.flat*(r.dense+routed) + max(0, a.work-r.head)
	allocated := 0.0
	for _, n := range p {
		allocated += n
	}
	p[Framework] = a.context + a.gaps*allocated
	return p
}

// gatheredWeights are there under ZeRO 3: of the layer that computes and of the next one, and
// in FSDP the ends' all the time, for they belong to the outermost unit (fully_shard's
// reshard_after_forward).
func (a *asked) gatheredWeights() float64 {
	if a.l.ZeRO < 3 || a.habits.sharded && a.l.PP > 1 {
		return 0
	}
	n := 2 * a.layer()
	if a.habits.sharded {
		n += a.both.dense
	}
	return float64(a.habits.element) * n
}

// layer is the parameters that a rank computes with in the largest layer.
func (a *asked) layer() float64 { return a.largest.dense + a.largest.routed/a.experts }

// backward is what the backward pass of a layer takes beside what is kept: gradients
// of what goes into its MLP's activation, a whole gradient that sequence-parallel ranks gather,
// under ZeRO 3 the layer's gradients before they are shared out, and with layers recomputed all
// that one of them keeps.
func (a *asked) backward() float64 {
	s := &a.largest
	experts := a.imbalance * (s.inner[keepAll] + float64(a.l.ETP)*s.ends[keepAll])
	n := max(s.grads, a.imbalance*s.expertGrads)
	if a.whole == 0 {
		n += a.habits.gathered(a.task.Model.Hidden, a.l.Layout)
	}
	switch a.mode {
	case keepInputs, keepOperators:
		n += s.kept[keepAll][a.whole] + experts
	case keepSelected:
		n += s.kept[keepAll][a.whole] - s.kept[keepSelected][a.whole]
	}
	n *= a.tokens
	if a.l.ZeRO == 3 {
		n += float64(a.habits.element+a.habits.formats.Gradient) * a.layer()
	}
	return n
}

// habits are what a stack keeps of its own accord.
type habits struct {
	formats   anatomy.Formats
	element   int  // bytes of activations, and of the weights that products read
	narrow    int  // bytes of products' inputs where those are narrower; 0: they are not
	sharded   bool // under ZeRO 3 weights are shards of the masters, and gathered in units
	whole     bool // there is no sequence parallelism
	unfused   bool // attention writes its scores out
	dropout   bool
	weighed   bool       // experts' inner vectors are multiplied with the router's weight
	operators bool       // selective recomputation is by operators
	loss      [2]float64 // bytes of a logit while the loss is taken, beside the kept fp32: alone, and where tensor-parallel ranks have shares
	flat      float64    // bytes of a parameter in buffers that the gradients' exchange copies to
}

// habitsOf are those of a task's stack. Sources: Megatron-Core's fused_cross_entropy
// (logits in 16 bits beside their softmax), torch.nn.functional.cross_entropy (softmax, its
// gradient and that of the logits in fp32) and DTensor's loss_parallel (one more of them),
// Sailor's planner (check_stage_fits in planner_utils.cpp: 24 bytes a parameter of which 8 are
// copies) and its Megatron-DeepSpeed (logits, logits less their maximum, their gradient).
func habitsOf(t Task) habits {
	h := habits{formats: anatomy.Mixed(), element: 2, weighed: true, unfused: t.Unfused, loss: [2]float64{2, 2}}
	switch t.Stack {
	case FSDP, Titan:
		h.sharded, h.loss = true, [2]float64{8, 12}
		h.operators = t.Stack == Titan
	case Classic:
		h.weighed, h.dropout = false, true
	case Sailor:
		h.weighed, h.unfused, h.whole, h.flat, h.loss = false, true, true, 8, [2]float64{8, 8}
	}
	switch t.Format {
	case "fp32", "tf32":
		h.formats, h.element, h.loss = anatomy.FP32(), 4, [2]float64{max(4, h.loss[0]), max(4, h.loss[1])}
	case "fp8", "fp4":
		// Transformer Engine keeps narrow weights, and their transposes, from one micro-batch to
		// the next; torchao's products keep wide inputs and narrow them again.
		if !h.sharded {
			h.narrow, h.formats.Weight = 1, h.formats.Weight+2
		}
	}
	return h
}

func (h habits) keeping(t Task, l anatomy.Layout, m anatomy.Recompute) anatomy.Keeping {
	return anatomy.Keeping{Layout: l, Recompute: m, Sequence: t.Sequence, Element: h.element, Narrow: h.narrow, Unfused: h.unfused, Dropout: h.dropout, Weighed: h.weighed}
}

// lossOf is the bytes of a token while the loss is taken.
func (h habits) lossOf(vocabulary, tp int) float64 {
	return h.loss[min(1, tp-1)] * float64(vocabulary) / float64(tp)
}

// gathered is the bytes of a token that tensor-parallel ranks gather from all of them.
func (h habits) gathered(hidden int, l anatomy.Layout) float64 {
	if l.TP == 1 || l.Whole || h.whole {
		return 0
	}
	return float64(h.element) * float64(hidden)
}

// modeOf is how a stack does what is asked. What is not stated recomputes nothing.
func (h habits) modeOf(r anatomy.Recompute) mode {
	switch {
	case r == anatomy.FullLayers:
		return keepInputs
	case r == anatomy.Selective && h.operators, r == anatomy.Operators:
		return keepOperators
	case r == anatomy.Selective:
		return keepSelected
	}
	return keepAll
}

//go:embed memory.csv
var builtinMemory []byte

// MemoryConstants are what a rank takes beside its tensors: "context", bytes of driver and
// collectives' library, and "gaps", the allocator's part of what is allocated. Fitted by
// package fit.
func MemoryConstants() Constants {
	k, err := ParseConstants("memory.csv", builtinMemory)
	if err != nil {
		panic("plan: " + err.Error()) // a test reads it
	}
	return k
}

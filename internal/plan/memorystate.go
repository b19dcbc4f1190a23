package plan

import (
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// habits are what a stack keeps of its own accord.
type habits struct {
	formats  anatomy.Formats
	sharded  bool // weights under ZeRO 3 are shards of the masters: there is no narrow copy beside them
	unfused  bool // attention writes its scores out
	dropout  bool
	gathered int // layers whose weights are there at a time under ZeRO 3: one that computes, one that comes
}

func habitsOf(s Stack) habits {
	h := habits{formats: anatomy.Mixed(), gathered: 2}
	if s == FSDP {
		h.sharded = true
	}
	return h
}

func (h habits) keeping(t Task, l anatomy.Layout, mode anatomy.Recompute) anatomy.Keeping {
	return anatomy.Keeping{Layout: l, Recompute: mode, Sequence: t.Sequence, Element: 2, Unfused: h.unfused, Dropout: h.dropout}
}

// bytes is the memory of a load but for what all ranks have alike, shares not rounded up: to
// compare ranks by.
func (a *asked) bytes(r load) float64 {
	f, n := a.habits.formats, r.kept+r.logits
	routed := r.routed / (float64(a.l.EP) * float64(a.l.ETP))
	for _, s := range [...]struct{ bytes, from int }{{a.weightBytes(), 3}, {f.Gradient, 2}, {f.Master, 1}, {f.Moments, 1}} {
		if a.l.ZeRO < s.from {
			n += float64(s.bytes) * (r.dense + routed)
		} else {
			n += float64(s.bytes) * (r.dense/a.replicas.dense + routed/a.replicas.routed)
		}
	}
	return n
}

func (a *asked) weightBytes() int {
	if a.habits.sharded && a.l.ZeRO == 3 {
		return 0
	}
	return a.habits.formats.Weight
}

// parts is the memory of a load by parts.
func (a *asked) parts(r load) [Parts]float64 {
	f := a.habits.formats
	routed := r.routed / (float64(a.l.EP) * float64(a.l.ETP))
	whole := r.dense + routed
	share := math.Ceil(r.dense/a.replicas.dense) + math.Ceil(routed/a.replicas.routed)
	of := func(bytes, from int) float64 {
		if a.l.ZeRO < from {
			return float64(bytes) * whole
		}
		return float64(bytes) * share
	}
	return [Parts]float64{
		Weights: of(a.weightBytes(), 3), Gradients: of(f.Gradient, 2), Masters: of(f.Master, 1), Moments: of(f.Moments, 1),
		Activations: r.kept, Logits: r.logits, Buffers: a.buffers(), Framework: frameworkBytes,
	}
}

// frameworkBytes is what driver, collectives' library and allocator take.
const frameworkBytes = 1.5 * (1 << 30)

// buffers is what is there for a time: under ZeRO 3 the weights of the layers that are at
// work, and their gradients before they are shared out; the inputs that sequence parallelism
// gathers; and with layers recomputed what one of them keeps.
func (a *asked) buffers() float64 {
	n := 0.0
	if a.l.ZeRO == 3 {
		layer := a.largest.dense + a.largest.routed/(float64(a.l.EP)*float64(a.l.ETP))
		n += layer * float64(a.habits.gathered*a.habits.formats.Weight+a.habits.formats.Gradient)
	}
	if a.l.TP > 1 && !a.l.Whole {
		n += a.tokens * 2 * float64(a.task.Model.Hidden)
	}
	if a.mode == modeIndex(anatomy.FullLayers) {
		n += a.tokens * (a.largest.kept[0][a.whole] + a.imbalance*(a.largest.inner+float64(a.l.ETP)*a.largest.ends))
	}
	return n
}

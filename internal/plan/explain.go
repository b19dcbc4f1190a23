package plan

import (
	"fmt"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// Explain gives the terms and the memory of a layout with their formulas: the same
// numbers that Step gives.
func (m *Model) Explain(l Layout) (terms, memory []Told) {
	step := m.Step(l)
	e := explained{Model: m, l: l, tokens: float64(l.MicroBatch) * float64(m.task.Sequence) / float64(l.CP), batches: m.task.Batch / (l.DP * l.MicroBatch)}
	none := absent()
	for i, formula := range e.formulas() {
		if step.Terms[i] == 0 && none[i] != "" {
			formula = none[i]
		}
		terms = append(terms, Told{Term(i).String(), step.Terms[i], formula})
	}
	return terms, m.memory.explain(l)
}

// absent says why there are none of the terms that a step need not have.
func absent() [Terms]string {
	return [Terms]string{ExpertProducts: "no layer has experts", Recomputed: "nothing is computed again", TensorTraffic: "tp 1: none", ExpertTraffic: "ep 1, etp 1: none", ContextTraffic: "cp 1: none",
		StageTraffic: "pp 1: none", Bubble: "pp 1: none", DataTraffic: "one replica: none"}
}

type explained struct {
	*Model
	l       Layout
	tokens  float64
	batches int
}

// formulas are one a term.
func (e explained) formulas() [Terms]string {
	l, c, h := e.l, e.c, e.chip
	each := fmt.Sprintf("%d micro-batches × the slowest of %d stages × %s tokens: ", e.batches, l.PP, anatomy.Number(e.tokens))
	rate := func(perUnit, peak float64) string {
		return fmt.Sprintf("%.0f %% of %.0f TFLOPS", 100/(perUnit*peak), peak/1e12)
	}
	memory := fmt.Sprintf("%.0f %% of %.0f GB/s", 100/(c.byteTime*h.Bandwidth), h.Bandwidth/1e9)
	peak, widePeak := h.Peak[e.task.Format], h.Peak[wide(e.task.Format)]
	return [Terms]string{
		Products: each + fmt.Sprintf("2 in × out FLOP each way and once more for weights' gradients, at %s × in/(in + %.0f) × out/(out + %.0f), %.0f tokens more a call; operands at %s",
			rate(c.product, peak), c.width, c.width, c.tokens, memory),
		ExpertProducts: each + fmt.Sprintf("as products at %s, %.3g s more an expert of the rank; imbalance × %g", rate(c.expert, peak), c.grouped, max(1, e.task.Imbalance)),
		Attention:      each + fmt.Sprintf("2 × heads × (query + value) × (keys seen + %.0f) FLOP at %s, backward × 2.5", c.keys, rate(c.score, widePeak)),
		Head:           fmt.Sprintf("%d micro-batches × vocabulary × width × %d, at %s; logits moved in fp32", e.batches, 1+e.task.Model.MTP, rate(c.wide, widePeak)),
		Elementwise:    each + fmt.Sprintf("%.2g × the bytes that a layer keeps, and %.2g × tokens on their way to experts, at %s, backward × 2", c.elementwise, c.routing, memory),
		Recomputed:     each + e.again(),
		TensorTraffic:  each + fmt.Sprintf("gathers and scatters of the stream among %d ranks at %.0f GB/s, %.0f %% not hidden", l.TP, 1e-9/e.ring(l.TP, 1), 100*c.tp),
		ExpertTraffic: each + fmt.Sprintf("4 × choice × width to %d ranks, %d of them by links at %.0f GB/s and groups of others once at %.0f GB/s, gathered by %d of an expert; %.0f %% not hidden",
			l.EP, h.inside(l.EP, l.ETP), 1e-9/c.link, 1e-9/c.nic, l.ETP, 100*c.ep),
		ContextTraffic: each + fmt.Sprintf("keys and values around %d ranks at %.0f GB/s beside attention, forward, and with their gradients backward", l.CP, 1e-9/e.ring(l.CP, l.TP)),
		StageTraffic:   fmt.Sprintf("%d micro-batches × %d virtual stages × stream and gradient; %.0f %% not hidden", e.batches, max(1, l.VPP), 100*c.send),
		Bubble:         fmt.Sprintf("(all %d stages − the slowest) of one micro-batch / %d virtual stages", l.PP, max(1, l.VPP)),
		DataTraffic:    e.data(),
		Optimizer:      "30 bytes of each parameter that the rank updates, at " + memory,
		Overhead:       each + fmt.Sprintf("2 × %.2g s a layer; %.2g %% of all for each doubling of hosts", c.launch, 100*c.scale),
	}
}

// again says what is computed once more.
func (e explained) again() string {
	switch e.memory.habits.modeOf(e.l.Recompute) {
	case keepOperators:
		return "half of products and all elementwise work forward"
	case keepSelected:
		return "attention forward"
	}
	return "all that layers do forward"
}

func (e explained) data() string {
	ranks, often, beside := e.l.DP*e.l.CP, "once a step", fmt.Sprintf("beside work: (work^p + traffic^p)^(1/p) − work, p %.2g", e.c.overlap)
	switch {
	case e.gathersEachTime(e.l):
		often = "each micro-batch, weights twice"
	case e.l.ZeRO == 2:
		often = "gradients each micro-batch, weights once a step"
	}
	if e.l.Exposed {
		beside = "after work"
	}
	return fmt.Sprintf("gradients and weights of a rank among %d replicas at %.0f GB/s, %s, %s", ranks, 1e-9/e.ring(ranks, e.l.TP), often, beside)
}

// MFU is the share of the dense peak of the task's format that a step's model
// operations take: causal attention, nothing recomputed, the head counted.
func (m *Model) MFU(s Step, chips int) float64 {
	w := m.task.Model.Work(anatomy.Convention{Sequence: m.task.Sequence})
	operations := (w.Forward() + w.Backward()) * float64(m.task.Batch) * float64(m.task.Sequence)
	return operations / (s.Seconds * float64(chips) * m.chip.Peak[m.task.Format])
}

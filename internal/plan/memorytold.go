package plan

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// explain is of with formulas: the same numbers, and whose they are.
func (m *memoryTable) explain(l Layout) []Told {
	parts := m.of(l)
	told := make([]Told, Parts)
	for p := range parts {
		told[p] = Told{Name: Part(p).String(), Value: parts[p], Formula: "tp is none that the model can have"}
	}
	s, ok := m.byTP[l.TP]
	if !ok {
		return told
	}
	a := m.ask(s, l)
	rank, most := a.fullest()
	states := a.states()
	for p := range Activations {
		told[p].Formula = a.toldState(most, states[p])
	}
	told[Activations].Formula = a.toldActivations(rank, most)
	told[Logits].Formula = "the fullest stage has no head"
	if most.head > 0 {
		told[Logits].Formula = fmt.Sprintf("%s tokens × %s bytes of the head's inputs, logits and their gradient", anatomy.Number(a.tokens), short(most.head/a.tokens))
	}
	told[Buffers].Formula = a.toldBuffers(most)
	told[Framework].Formula = fmt.Sprintf("%s of driver and collectives + %s × what is allocated, for the allocator's gaps", bytesOf(m.context), short(m.gaps))
	return told
}

func short(x float64) string { return fmt.Sprintf("%.5g", x) }

func bytesOf(n float64) string { return anatomy.Scaled(n, "B", "kB", "MB", "GB", "TB") }

func (a *asked) toldState(r load, s state) string {
	dense, experts := anatomy.Count(int64(r.dense)), anatomy.Count(int64(r.routed/a.experts))
	switch {
	case s.bytes == 0:
		return "none beside the other parts"
	case !s.shared && r.routed == 0:
		return fmt.Sprintf("%g bytes × %s parameters", s.bytes, dense)
	case !s.shared:
		return fmt.Sprintf("%g bytes × (%s parameters + %s of experts)", s.bytes, dense, experts)
	case r.routed == 0:
		return fmt.Sprintf("%g bytes × %s parameters / %g replicas", s.bytes, dense, a.dense)
	}
	return fmt.Sprintf("%g bytes × (%s parameters / %g replicas + %s of experts / %g)", s.bytes, dense, a.dense, experts, a.routed)
}

// toldActivations counts layers of micro-batches, by virtual stage.
func (a *asked) toldActivations(rank int, r load) string {
	var words []string
	layers := 0.0
	for v := range a.virtual {
		from, to := a.layers(rank, v)
		layers += a.passes(rank, v) * float64(to-from)
		words = append(words, fmt.Sprintf("%g × %d", a.passes(rank, v), to-from))
	}
	return fmt.Sprintf("stage %d of %d: (%s micro-batches × layers) × %s tokens × %s bytes on average", rank+1, a.l.PP, strings.Join(words, " + "), anatomy.Number(a.tokens), short(r.kept/(a.tokens*layers)))
}

func (a *asked) toldBuffers(r load) string {
	var words []string
	if n := a.gatheredWeights(); n > 0 {
		words = append(words, bytesOf(n)+" of gathered weights")
	}
	if a.habits.flat > 0 {
		words = append(words, fmt.Sprintf("%g bytes of each parameter to exchange gradients", a.habits.flat))
	}
	switch {
	case a.work > r.head && r.head > 0:
		words = append(words, bytesOf(a.work-r.head)+" that a layer's backward pass takes beyond the logits, which are gone by then")
	case a.work > r.head:
		words = append(words, bytesOf(a.work)+" of a layer's backward pass")
	default:
		words = append(words, "a layer's backward pass fits in what the logits leave")
	}
	return strings.Join(words, " + ")
}

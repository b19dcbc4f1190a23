package plan

import (
	"fmt"

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
	f, flight := a.habits.formats, inFlight(l.PP, l.VPP, a.micros, rank, 0)
	for p, text := range [Parts]string{
		Weights:     a.toldState(most, a.weightBytes(), 3),
		Gradients:   a.toldState(most, f.Gradient, 2),
		Masters:     a.toldState(most, f.Master, 1),
		Moments:     a.toldState(most, f.Moments, 1),
		Activations: fmt.Sprintf("stage %d of %d: %d micro-batches of %s tokens, %s bytes a token in all", rank+1, l.PP, flight, anatomy.Number(a.tokens), anatomy.Number(most.kept/(a.tokens*float64(flight)))),
		Logits:      fmt.Sprintf("%s tokens × %s bytes", anatomy.Number(a.tokens), anatomy.Number(most.logits/a.tokens)),
		Buffers:     a.toldBuffers(),
		Framework:   "driver, collectives and allocator",
	} {
		told[p].Formula = text
	}
	return told
}

func (a *asked) toldState(r load, bytes, from int) string {
	experts := r.routed / (float64(a.l.EP) * float64(a.l.ETP))
	if a.l.ZeRO < from {
		return fmt.Sprintf("%d bytes × (%s + %s of experts)", bytes, anatomy.Count(int64(r.dense)), anatomy.Count(int64(experts)))
	}
	return fmt.Sprintf("%d bytes × (%s / %g + %s of experts / %g)", bytes, anatomy.Count(int64(r.dense)), a.replicas.dense, anatomy.Count(int64(experts)), a.replicas.routed)
}

func (a *asked) toldBuffers() string {
	text := "work that is under way"
	if a.l.ZeRO == 3 {
		text += fmt.Sprintf("; %d gathered layers and the gradients of one", a.habits.gathered)
	}
	if a.l.TP > 1 && !a.l.Whole {
		text += "; the input that the ranks gather"
	}
	if a.mode == modeIndex(anatomy.FullLayers) {
		text += "; what one layer keeps while it is computed again"
	}
	return text
}

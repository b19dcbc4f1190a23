package island

import (
	"math"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/wire"
)

// measuring is what an island waits for that measures a validation loss: it may take
// longer than any step, and is none.
const measuring = "its validation loss"

// evaluate has the trainer measure the validation loss, if that was asked for. Weights
// that came before the question are in place first.
func (r *runner) evaluate() {
	ask := r.evaluateAsked
	x, outside := r.learner.trainer.(*external)
	if ask == nil || !outside {
		return
	}
	r.evaluateAsked = nil
	r.evaluating = append(r.evaluating, ask)
	r.aside(measuring)
	x.order(attach.Action{Do: attach.Evaluate})
}

// validated passes on a validation loss that the trainer has measured.
func (r *runner) validated(v *attach.Validation) {
	last := false
	if len(r.evaluating) > 0 {
		last = r.evaluating[0].Last
		r.evaluating = r.evaluating[1:]
	}
	if len(r.evaluating) == 0 {
		r.aside("")
	}
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Evaluation{Evaluation: &wire.Evaluation{
		Step: v.Step, Loss: finiteOr(float64(v.Loss)), Tokens: uint64(max(0, v.Tokens)), StampTokens: uint64(r.learner.clock.stamp), Last: last,
	}}}, nil)
}

// unmeasured: a trainer that waits has done what it was told and has not measured; nor will
// it, for it cannot be asked again before it trains. Nobody waits for it any longer.
func (r *runner) unmeasured() {
	if len(r.evaluating) > 0 {
		r.validated(&attach.Validation{Loss: attach.Number(math.NaN()), Step: r.learner.step})
	}
}
